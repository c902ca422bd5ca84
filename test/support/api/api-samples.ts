import type { Decision } from "../../../src/contracts/api/autoscaling.ts";
import type { BerthEvent } from "../../../src/contracts/api/events.ts";
import type { Host } from "../../../src/contracts/api/hosts.ts";
import type { Service } from "../../../src/contracts/api/services.ts";
import type { BerthSet } from "../../../src/contracts/api/sets.ts";

/**
 * Valid responses of the API, for tests of the CLI. Each test changes the members that it needs.
 */
export const sampleNowMs = Date.parse("2026-01-05T12:00:00.000Z");

const noCounts: Service["counts"] = {
  pending: 0,
  placed: 0,
  preparing: 0,
  starting: 0,
  running: 0,
  ready: 0,
  stopping: 0,
  stopped: 0,
  failed: 0,
  lost: 0,
};

export function sampleService(changes: Partial<Service> = {}): Service {
  return {
    id: "svc_01jd0000000000000000000001",
    tenant: "default",
    name: "menu-web",
    generation: 4,
    revision: 1,
    targetRevision: 1,
    updatedSets: 3,
    addresses: [{ network: "default", addresses: ["10.64.0.9"] }],
    size: { cpuMillis: 500, memoryBytes: 512 * 2 ** 20, volumeBytes: 0 },
    replicas: 3,
    desiredReplicas: 3,
    priority: 100,
    template: {
      cpuMillis: 500,
      memoryBytes: 512 * 2 ** 20,
      rootfsBytes: 10 * 2 ** 30,
      volume: null,
      sysctls: {},
      networks: [{ network: "default" }],
      containers: [
        {
          index: 0,
          name: "app",
          image: "menu:42",
          options: {
            cpuPercent: 100,
            memoryPercent: 100,
            env: {},
            restart: { on: "always" },
            stopSignal: "SIGTERM",
            stopTimeoutSeconds: 10,
          },
        },
      ],
    },
    placement: {
      strategy: "pack",
      spread: [],
      antiAffinity: [],
      affinity: [],
      hostLabels: {},
      tolerations: [],
      pool: "default",
    },
    onHostLost: "replace",
    autoscale: null,
    disruption: { maxUnavailable: 1, maxSurge: "25%", minReadySeconds: 0 },
    gatewayPorts: [],
    counts: { ...noCounts, running: 3, ready: 3 },
    settled: true,
    reason: null,
    deleting: false,
    createdAt: "2026-01-05T10:00:00.000Z",
    updatedAt: "2026-01-05T11:00:00.000Z",
    ...changes,
  };
}

export function sampleCounts(changes: Partial<Service["counts"]>): Service["counts"] {
  return { ...noCounts, ...changes };
}

export function sampleSet(changes: Partial<BerthSet> = {}): BerthSet {
  return {
    id: "set_01jd0000000000000000000001",
    tenant: "default",
    service: "menu-web",
    revision: 1,
    generation: 2,
    desired: "running",
    state: "running",
    ready: true,
    reason: null,
    host: { id: "host_01jd000000000000000000001", name: "rack1-host7" },
    address: "172.17.0.4",
    memoryUsedBytes: 100 * 2 ** 20,
    completed: false,
    resizeApplied: true,
    moving: false,
    operation: null,
    lastOperation: null,
    cpuMillis: 500,
    memoryBytes: 512 * 2 ** 20,
    volumeBytes: 0,
    rootfsBytes: 10 * 2 ** 30,
    containers: [
      {
        name: "app",
        state: "running",
        ready: true,
        dockerId: "a".repeat(64),
        restarts: 2,
        oomKills: 0,
        rootfsUsedBytes: null,
        exitCode: null,
        startedAt: "2026-01-05T11:59:00.000Z",
        reason: null,
      },
    ],
    createdAt: "2026-01-05T11:58:00.000Z",
    placedAt: "2026-01-05T11:58:00.000Z",
    runningAt: "2026-01-05T11:58:01.000Z",
    updatedAt: "2026-01-05T11:58:01.000Z",
    ...changes,
  };
}

export function sampleHost(changes: Partial<Host> = {}): Host {
  return {
    id: "host_01jd0000000000000000000001",
    name: "rack1-host7",
    pool: "default",
    zone: "north",
    rack: "rack1",
    labels: { disk: "nvme" },
    taints: [],
    gatewayGroup: null,
    state: "ready",
    reason: null,
    cordoned: false,
    draining: false,
    generation: 9,
    agentVersion: "0.1.0",
    capabilities: {
      features: ["init", "tmpfs"],
      docker: {
        version: "28.0.1",
        imageStore: "overlay2",
        cgroupDriver: "systemd",
        cgroupVersion: 2,
      },
      setsMax: 480,
      selfTest: { state: "passed", reason: null },
      otherHostVolumes: [],
      tunnelAddress: "192.0.2.7",
      hostAddress: "192.0.2.7",
    },
    allocatable: {
      cpuMillis: 64_000,
      memoryBytes: 256 * 2 ** 30,
      volumeBytes: 0,
      rootfsBytes: 2 ** 40,
    },
    allocated: {
      cpuMillis: 1_500,
      memoryBytes: 1.5 * 2 ** 30,
      volumeBytes: 0,
      rootfsBytes: 30 * 2 ** 30,
    },
    unknownSets: [],
    reported: {
      used: { cpuMillis: 700, memoryBytes: 2 ** 30, volumeBytes: 0, rootfsBytes: 2 ** 30 },
      reclaimableVolumeBytes: 0,
      trashedVolumeBytes: 0,
      reason: null,
      volumeReason: null,
      imageBytes: 2 ** 29,
      containerBytes: null,
      at: "2026-01-05T11:59:50.000Z",
    },
    sets: 3,
    leaseExpiresAt: "2026-01-05T12:00:30.000Z",
    credential: { replacedAt: null, rotationRequestedAt: null },
    enrolledAt: "2026-01-01T00:00:00.000Z",
    ...changes,
  };
}

export function sampleDecision(changes: Partial<Decision> = {}): Decision {
  return {
    id: "dcn_01jd0000000000000000000001",
    service: "menu-web",
    at: "2026-01-05T11:57:00.000Z",
    fromReplicas: 3,
    toReplicas: 8,
    acted: true,
    because: ["alert SetCpuHigh requests 8", "within 3 to 32"],
    generation: 4,
    ...changes,
  };
}

export function sampleEvent(changes: Partial<BerthEvent> = {}): BerthEvent {
  return {
    id: 17,
    at: "2026-01-05T11:59:58.123Z",
    kind: "set-running",
    tenant: "default",
    service: "menu-web",
    setId: "set_01jd0000000000000000000001",
    hostId: "host_01jd0000000000000000000001",
    generation: 2,
    text: "set_01jd0000000000000000000001 runs on rack1-host7",
    data: {},
    ...changes,
  };
}
