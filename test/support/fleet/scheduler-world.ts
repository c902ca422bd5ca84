import type {
  HostSnapshot,
  PlacementConstraints,
  PlacementRequest,
  PlanPolicy,
  Resources,
} from "../../../src/scheduler/placement/model.ts";

/**
 * Small worlds for tests of the planner: amounts are plain numbers, equal in all dimensions unless
 * a test names others.
 */
export const nowMs = 1_000;

export function amounts(each: number, some: Partial<Resources> = {}): Resources {
  return { cpuMillis: each, memoryBytes: each, volumeBytes: each, rootfsBytes: each, ...some };
}

export function policyOf(some: Partial<PlanPolicy["pools"][number]> = {}): PlanPolicy {
  return {
    version: 1,
    reportAgeMaxMs: 500,
    setsPerHostMax: 1_000,
    pools: [
      { pool: "default", overcommitPercent: amounts(100), highWaterPercent: amounts(100), ...some },
    ],
  };
}

export function hostOf(id: string, some: Partial<HostSnapshot> = {}): HostSnapshot {
  return {
    id,
    pool: "default",
    zone: "z1",
    rack: "r1",
    labels: {},
    taints: [],
    readiness: "ready",
    allocatable: amounts(100),
    allocated: amounts(0),
    reported: { used: amounts(0), atMs: nowMs },
    unreported: amounts(0),
    reclaimableVolumeBytes: 0,
    images: [],
    features: [],
    setsMax: Number.POSITIVE_INFINITY,
    ...some,
  };
}

export function toConstraints(some: Partial<PlacementConstraints> = {}): PlacementConstraints {
  return {
    strategy: "pack",
    spread: [],
    antiAffinity: [],
    affinity: [],
    hostLabels: {},
    tolerations: [],
    pool: "default",
    features: [],
    subnets: [],
    hostPorts: [],
    uncountedSets: new Map(),
    ...some,
  };
}

export function requestOf(setId: string, some: Partial<PlacementRequest> = {}): PlacementRequest {
  return {
    setId,
    serviceId: "svc_web",
    resources: amounts(10),
    priority: 0,
    constraints: toConstraints(),
    images: [],
    avoidHostIds: [],
    ...some,
  };
}
