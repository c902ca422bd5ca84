import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { FleetHostRow, HostPoolRow } from "../../db/queries/placement/fleet.ts";
import { assert } from "../../lib/assert.ts";
import type {
  HostReadiness,
  HostSnapshot,
  PlanPolicy,
  Resources,
} from "../../scheduler/placement/model.ts";

/** One counter gives the versions of all pools, so the newest is the version of the policy. */
export function toPlanPolicy(pools: readonly HostPoolRow[], reportAgeMaxMs: number): PlanPolicy {
  return {
    version: pools.reduce((newest, pool) => Math.max(newest, pool.version), 0),
    reportAgeMaxMs,
    setsPerHostMax: SETS_PER_HOST_MAX,
    pools: pools.map((pool) => ({
      pool: pool.name,
      overcommitPercent: pool.overcommitPercent,
      highWaterPercent: pool.highWaterPercent,
    })),
  };
}

/**
 * A host row for the planner, from a refresh or from a row that the commit has locked. Pass the
 * pools of findPoolsWithIgnoredSelfTest, unless only the amounts of the host matter.
 */
export function toHostSnapshot(
  row: FleetHostRow,
  ignoredSelfTests: ReadonlySet<string> = new Set(),
): HostSnapshot {
  return {
    id: row.id,
    pool: row.pool,
    zone: row.zone,
    rack: row.rack,
    labels: row.labels,
    taints: row.taints,
    readiness: toReadiness(row, ignoredSelfTests),
    allocatable: toResources(row.allocatable),
    allocated: toResources(row.allocated),
    reported:
      row.reportedAtMs === null
        ? undefined
        : { used: toResources(row.used), atMs: row.reportedAtMs },
    unreported: toResources(row.unreported),
    reclaimableVolumeBytes: row.reclaimableVolumeBytes,
    images: row.images,
    features: row.features,
    setsMax: row.setsMax ?? Number.POSITIVE_INFINITY,
  };
}

function toReadiness(row: FleetHostRow, ignoredSelfTests: ReadonlySet<string>): HostReadiness {
  if (row.state !== "ready") return row.state;
  if (row.draining) return "draining";
  if (row.cordoned) return "cordoned";
  return row.isSelfTestFailed && !ignoredSelfTests.has(row.pool) ? "self-test-failed" : "ready";
}

function toResources(amounts: readonly number[]): Resources {
  const [cpuMillis, memoryBytes, volumeBytes, rootfsBytes] = amounts;
  assert(
    cpuMillis !== undefined &&
      memoryBytes !== undefined &&
      volumeBytes !== undefined &&
      rootfsBytes !== undefined,
    "a host row has four amounts",
  );
  return { cpuMillis, memoryBytes, volumeBytes, rootfsBytes };
}
