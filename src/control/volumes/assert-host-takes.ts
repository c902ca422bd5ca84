import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type FleetHostRow,
  listHostsAfter,
  listPlacedSets,
  listSetsOnHosts,
  lockFleetHosts,
  readRefreshPosition,
} from "../../db/queries/placement/fleet.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { sumTrash } from "../../db/queries/volumes/volumes.ts";
import { assert } from "../../lib/assert.ts";
import { listReasonsOnHost } from "../../scheduler/placement/admit-on-host.ts";
import { explainHostReasons } from "../../scheduler/placement/explain.ts";
import { fitsHost } from "../../scheduler/placement/fits.ts";
import { createFleet } from "../../scheduler/placement/fleet.ts";
import type { HostSnapshot, Resources } from "../../scheduler/placement/model.ts";
import { toHostSnapshot, toPlanPolicy } from "../placement/host-snapshot.ts";
import { findPoolsWithIgnoredSelfTest } from "../placement/ignore-self-tests.ts";
import { buildServiceRequests } from "../placement/placement-requests.ts";
import type { ControlSettings } from "../runtime/context.ts";
import { volumeConflict } from "./volume-conflict.ts";

/** Hosts per statement. */
const HOSTS_PER_CHUNK = 500;

export interface TakingHost extends HostSnapshot {
  /** The version of the policy by which the host takes the set. */
  policyVersion: number;
}

interface RestoredSet {
  setId: string;
  template: SetTemplate;
  /** With the overhead of the containers. */
  requested: Resources;
}

/**
 * Lists the hosts whose domains the spread of a service compares. A service without spread needs
 * none. Call it before the transaction that restores, because a fleet has thousands of hosts.
 */
export async function listHostsForSpread(
  q: Queryable,
  service: Pick<ServiceRow, "placement"> | undefined,
): Promise<FleetHostRow[]> {
  if (!service || !hasRequiredSpread(service)) return [];
  const hosts: FleetHostRow[] = [];
  for (;;) {
    const afterId = hosts.at(-1)?.id ?? "";
    const chunk = await listHostsAfter(q, { afterId, limit: HOSTS_PER_CHUNK });
    hosts.push(...chunk);
    if (chunk.length < HOSTS_PER_CHUNK) return hosts;
  }
}

/** A preferred rule rules out no host. */
function hasRequiredSpread({ placement }: Pick<ServiceRow, "placement">): boolean {
  return placement.spread.some(({ mode }) => mode !== "preferred");
}

/**
 * Locks the volume's host, and checks with the planner's own functions that it takes the set: all
 * rules of the placement, and capacity (I2). Returns the host, or throws state-conflict with the
 * reasons. The caller has the placement lock, so that no placement breaks a rule meanwhile.
 *
 * @param otherHosts from listHostsForSpread
 */
export async function assertHostTakes(
  tx: Queryable,
  settings: ControlSettings,
  {
    volume,
    service,
    set,
    otherHosts,
  }: {
    volume: Volume;
    service: ServiceRow;
    set: RestoredSet;
    otherHosts: readonly FleetHostRow[];
  },
): Promise<TakingHost> {
  const hostId = volume.host.id;
  const hasSpread = hasRequiredSpread(service);
  // The host is locked first, so that its sets and claims are those after the lock.
  const [row] = await lockFleetHosts(tx, [hostId]);
  if (!row) throw volumeConflict(`Host ${volume.host.name} does not exist.`);
  const [position, onHost, ofService, trashedBytes] = await Promise.all([
    readRefreshPosition(tx),
    listSetsOnHosts(tx, [hostId]),
    hasSpread ? listPlacedSets(tx, service.id) : [],
    sumTrash(tx, hostId),
  ]);
  // The service may have got the rule after the hosts were read.
  const others =
    hasSpread && otherHosts.length === 0 ? await listHostsForSpread(tx, service) : otherHosts;
  const { setId, template, requested } = set;
  const [request] = await buildServiceRequests(tx, service, [
    { setId, template, avoidHostIds: [] },
  ]);
  assert(request, "each set has a request");
  const policy = toPlanPolicy(position.pools, settings.reportAgeMaxMs);
  const ignored = findPoolsWithIgnoredSelfTest(position.pools, settings.lostHostsPercentMax);
  const fleet = createFleet(policy);
  for (const host of [...others, row]) fleet.upsertHost(toHostSnapshot(host, ignored));
  for (const { id, serviceId, hostId: placedOn } of [...onHost, ...ofService])
    if (placedOn !== null) fleet.upsertSet({ id, serviceId, hostId: placedOn });
  fleet.setClaims(position.claims);
  const reasons = listReasonsOnHost(fleet, hostId, request, { nowMs: position.nowMs });
  if (reasons.length > 0) {
    throw volumeConflict(
      `Host ${volume.host.name}, which has the volume, does not take the set: ${explainHostReasons(reasons)}`,
    );
  }
  const host = withVolumeFree(toHostSnapshot(row, ignored), volume, trashedBytes);
  const pool = policy.pools.find((candidate) => candidate.pool === row.pool);
  assert(pool, `host pool ${row.pool} has a policy`);
  const fit = fitsHost(host, pool, requested);
  if (!fit.ok) {
    throw volumeConflict(
      `Host ${volume.host.name}, which has the volume, has no capacity for the set: ${fit.reason}, by ${fit.shortBy}. Move or scale in other sets there.`,
    );
  }
  return { ...host, policyVersion: policy.version };
}

/**
 * Returns the host as if the volume used no space. The restored set books the bytes that the trash
 * uses, so they must not count twice. No more than the whole trash is reclaimable.
 */
function withVolumeFree(host: HostSnapshot, volume: Volume, trashedBytes: number): HostSnapshot {
  const reclaimable = host.reclaimableVolumeBytes + volume.sizeBytes;
  const used = host.reported?.used.volumeBytes ?? 0;
  return { ...host, reclaimableVolumeBytes: Math.min(used, trashedBytes, reclaimable) };
}
