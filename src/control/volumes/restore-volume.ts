import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { addOverhead, overheadOf } from "../../contracts/api/container-overhead.ts";
import { listNeededFeatures } from "../../contracts/agent-protocol/agent-features.ts";
import { SETS_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { insertAddresses } from "../../db/queries/networks/assign-addresses.ts";
import { listAllHostPools, lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import { commitPlacements } from "../../db/queries/placement/placements.ts";
import {
  getSizedTemplate,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { countHostSets, insertPendingSets } from "../../db/queries/sets/write-sets.ts";
import {
  findVolume,
  isRestorable,
  updateRestoreVolume,
  sumTrash,
} from "../../db/queries/volumes/volumes.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import { hasFeatures } from "../../scheduler/placement/filters.ts";
import { fitsHost } from "../../scheduler/placement/fits.ts";
import type { HostSnapshot, Resources } from "../../scheduler/placement/model.ts";
import type { AssignedAddresses } from "../networks/assign-addresses.ts";
import { chooseForPlacements } from "../networks/choose-addresses.ts";
import { ensureTemplateNetworks } from "../networks/default-network.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { findPoolsWithIgnoredSelfTest } from "../placement/ignore-self-tests.ts";
import { toHostSnapshot, toPlanPolicy } from "../placement/host-snapshot.ts";
import { reconcileServiceJob } from "../replicas/reconcile-replicas.ts";
import { getSet } from "../sets/get-set.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { assertWithinQuota } from "../tenancy/quota.ts";
import { notTrashedError, volumeConflict } from "./volume-conflict.ts";

/**
 * Starts one more set of the volume's service, on the volume's host and with the volume's data.
 * This increments the number of replicas of the service. Throws not-found, state-conflict,
 * quota-exceeded.
 */
export async function restoreVolume(
  ctx: ControlContext,
  scope: string | null,
  volumeId: string,
): Promise<BerthSet> {
  const setId = await unitOfWork(ctx, async (tx) => {
    const volume = await findVolume(tx, scope, volumeId);
    if (!volume) throw notFound("volume");
    const service = await lockServiceByName(tx, volume.tenantId, volume.service);
    assertMayRestore(volume, service);
    await assertGranted(tx, volume.tenantId, service);
    const template = await getSizedTemplate(tx, service);
    if (!template.volume)
      throw volumeConflict(`Service ${service.name} has no volume in its template.`);
    const requested: Resources = {
      cpuMillis: template.cpuMillis,
      memoryBytes: template.memoryBytes,
      volumeBytes: Math.max(template.volume.sizeBytes, volume.sizeBytes),
      rootfsBytes: template.rootfsBytes,
    };
    const overhead = overheadOf(template);
    const amounts = { sets: 1, ...requested };
    await assertWithinQuota(tx, volume.tenantId, {
      intended: amounts,
      existing: amounts,
      restoresVolumes: true,
    });
    const host = await assertHostTakes(tx, volume, {
      template,
      requested: addOverhead(requested, overhead),
      failedPercentMax: ctx.settings.lostHostsPercentMax,
    });
    if (!(await isRestorable(tx, volumeId))) throw notTrashedError(volume);
    const generation = await updateService(tx, {
      ...service,
      replicas: service.replicas + 1,
      desiredReplicas: service.desiredReplicas + 1,
    });
    const id = newId("set");
    const { revision, priority, tenantId } = service;
    const added = { ids: [id], tenantId, serviceId: service.id, revision, priority, ...requested };
    await insertPendingSets(tx, added);
    await updateRestoreVolume(tx, id, volumeId);
    const placement = { placementId: newId("plc"), setId: id, hostId: host.id };
    const because = { score: 0, because: { volume: 1 } };
    const placements = [{ ...placement, ...because, overhead, generation: 1 }];
    const addresses = await chooseAddressesOfSet(tx, ctx, {
      ...placement,
      tenantId,
      host,
      template,
    });
    await commitPlacements(tx, placements, host.policyVersion);
    await insertAddresses(tx, addresses.chosen, addresses.cursors);
    tx.emit({
      kind: "service-scaled",
      tenantId,
      serviceId: service.id,
      generation,
      data: {
        cause: "volume-restored",
        service: service.name,
        volumeId,
        to: service.desiredReplicas + 1,
      },
    });
    // The new generation ends rounds of earlier changes. This transaction has locked the volume's
    // host, so it locks no others.
    tx.enqueue(reconcileServiceJob({ id: service.id, generation }));
    tx.signal(`host:${volume.host.id}`, `set:${id}`, `service:${service.id}`);
    return id;
  });
  return getSet(ctx, scope, setId);
}

/**
 * Chooses the addresses of the set. Throws state-conflict if a subnet has none. Throws overloaded
 * while another transaction has locked a subnet.
 */
async function chooseAddressesOfSet(
  tx: UnitOfWork,
  ctx: ControlContext,
  set: {
    setId: string;
    hostId: string;
    tenantId: string;
    host: TakingHost;
    template: SetTemplate;
  },
): Promise<AssignedAddresses> {
  const templateNetworks = await ensureTemplateNetworks(
    tx,
    ctx,
    set.tenantId,
    set.template.networks,
  );
  const { placements, addresses } = await chooseForPlacements(
    tx,
    [set],
    new Map([[set.setId, { templateNetworks }]]),
    new Map([[set.hostId, set.host]]),
  );
  if (placements.length === 0 && addresses.isContended)
    throw new AppError("overloaded", {
      detail: "Another change of a network of the service is in progress. Retry the request later.",
      retryAfterMs: 1_000,
    });
  if (placements.length === 0)
    throw volumeConflict(
      "A network of the service has no free address. Remove sets from the network, or widen its pools.",
    );
  return addresses;
}

interface TakingHost extends HostSnapshot {
  /** The version of the policy by which the host takes the set. */
  policyVersion: number;
}

function assertMayRestore(
  volume: Volume,
  service: ServiceRow | undefined,
): asserts service is ServiceRow {
  if (volume.state !== "trashed") throw notTrashedError(volume);
  if (!service || service.deleting) {
    throw volumeConflict(
      `Service ${volume.service} is deleted. Create it again, then repeat the restore. With 0 replicas it has only the set of this volume.`,
    );
  }
  if (service.desiredReplicas > service.replicas) {
    // The next decision would remove the newest set, which has the restored volume.
    throw volumeConflict(
      `Alerts or bounds hold service ${service.name} at ${service.desiredReplicas} sets, above its ${service.replicas} replicas. Scale it to ${service.desiredReplicas} first, or repeat the restore when the alerts have resolved.`,
    );
  }
  if (service.autoscale && service.replicas >= service.autoscale.max) {
    throw volumeConflict(
      `Service ${service.name} already has autoscale.max (${service.autoscale.max}) replicas. Raise it first.`,
    );
  }
}

/**
 * Locks the volume's host, and checks with the planner's own functions that it takes the set (I2).
 * Returns the host.
 */
async function assertHostTakes(
  tx: Queryable,
  volume: Volume,
  {
    template,
    requested,
    failedPercentMax,
  }: { template: SetTemplate; requested: Resources; failedPercentMax: number },
): Promise<TakingHost> {
  const [pools, rows, trashedBytes] = await Promise.all([
    listAllHostPools(tx),
    lockFleetHosts(tx, [volume.host.id]),
    sumTrash(tx, volume.host.id),
  ]);
  const row = rows[0];
  if (!row) throw volumeConflict(`Host ${volume.host.name} does not exist.`);
  const policy = toPlanPolicy(pools, 0);
  const pool = policy.pools.find((candidate) => candidate.pool === row.pool);
  assert(pool, `host pool ${row.pool} has a policy`);
  const ignoredSelfTests = findPoolsWithIgnoredSelfTest(pools, failedPercentMax);
  const host = withVolumeFree(toHostSnapshot(row, ignoredSelfTests), volume, trashedBytes);
  if (host.readiness !== "ready") {
    const why =
      host.readiness === "self-test-failed"
        ? "the self test of its agent failed"
        : `it is ${host.readiness}`;
    throw volumeConflict(`Host ${volume.host.name} takes no sets now: ${why}.`);
  }
  if (!hasFeatures(host, listNeededFeatures(template))) {
    throw volumeConflict(
      `The agent of host ${volume.host.name}, which has the volume, is too old for an option of the template. Upgrade the agent, or omit the new options.`,
    );
  }
  const setsMax = Math.min(SETS_PER_HOST_MAX, host.setsMax);
  if ((await countHostSets(tx, host.id)) >= setsMax) {
    throw volumeConflict(
      `Host ${volume.host.name}, which has the volume, has the maximum of ${setsMax} sets.`,
    );
  }
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
