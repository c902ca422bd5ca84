import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { addOverhead, overheadOf } from "../../contracts/api/container-overhead.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { listPublished } from "../../contracts/api/template-ports.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { commitPlacements, lockPlacement } from "../../db/queries/placement/placements.ts";
import {
  findServiceByName,
  getSizedTemplate,
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { insertPendingSets } from "../../db/queries/sets/write-sets.ts";
import {
  findVolume,
  type VolumeRow,
  isRestorable,
  updateRestoreVolume,
} from "../../db/queries/volumes/volumes.ts";
import { newId } from "../../lib/ids.ts";
import type { Resources } from "../../scheduler/placement/model.ts";
import { ensureTemplateNetworks } from "../networks/default-network.ts";
import {
  chooseForPlacements,
  type ChosenForPlacements,
  storeChosen,
} from "../placement/choose-for-placements.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { reconcileServiceJob } from "../replicas/reconcile-replicas.ts";
import { getSet } from "../sets/get-set.ts";
import { assertGranted } from "../tenancy/grants.ts";
import { assertWithinQuota } from "../tenancy/quota.ts";
import { assertHostTakes, listHostsForSpread, type TakingHost } from "./assert-host-takes.ts";
import { notTrashedError, volumeConflict } from "./volume-conflict.ts";

/** The longest wait for a lock. A restore has the placement lock while it waits for the others. */
const LOCK_WAIT_MS_MAX = 500;

/**
 * Starts one more set of the volume's service, on the volume's host and with the volume's data.
 * This increments the number of replicas of the service. The host is checked by all rules of the
 * placement. Throws not-found, state-conflict, quota-exceeded, grant-missing, overloaded.
 */
export async function restoreVolume(
  ctx: ControlContext,
  scope: string | null,
  volumeId: string,
): Promise<BerthSet> {
  const before = await getTrashedVolume(ctx.db, scope, volumeId);
  const otherHosts = await listHostsForSpread(
    ctx.db,
    await findServiceByName(ctx.db, before.tenantId, before.service),
  );
  const setId = await unitOfWork(ctx, async (tx) => {
    await lockPlacement(tx, LOCK_WAIT_MS_MAX);
    const volume = await getTrashedVolume(tx, scope, volumeId);
    const service = await lockServiceByName(tx, volume.tenantId, volume.service);
    assertMayRestore(volume, service);
    await assertGranted(tx, volume.tenantId, service);
    const template = await getSizedTemplate(tx, service);
    const requested = computeAmounts(service, template, volume);
    const overhead = overheadOf(template);
    const amounts = { sets: 1, ...requested };
    await assertWithinQuota(tx, volume.tenantId, {
      intended: amounts,
      existing: amounts,
      restoresVolumes: true,
    });
    const id = newId("set");
    const host = await assertHostTakes(tx, ctx.settings, {
      volume,
      service,
      set: { setId: id, template, requested: addOverhead(requested, overhead) },
      otherHosts,
    });
    if (!(await isRestorable(tx, volumeId))) throw notTrashedError(volume);
    const generation = await updateService(tx, {
      ...service,
      replicas: service.replicas + 1,
      desiredReplicas: service.desiredReplicas + 1,
    });
    const { revision, priority, tenantId } = service;
    const added = { ids: [id], tenantId, serviceId: service.id, revision, priority, ...requested };
    await insertPendingSets(tx, added);
    await updateRestoreVolume(tx, id, volumeId);
    const placement = { placementId: newId("plc"), setId: id, hostId: host.id };
    const because = { score: 0, because: { volume: 1 } };
    const placements = [{ ...placement, ...because, overhead, generation: 1 }];
    const chosen = await chooseForSet(tx, ctx, {
      ...placement,
      generation: 1,
      tenantId,
      serviceId: service.id,
      host,
      template,
    });
    await commitPlacements(tx, placements, host.policyVersion);
    await storeChosen(tx, chosen);
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

/** The amounts of the set, without overhead. The volume may be larger than that of the template. */
function computeAmounts(service: ServiceRow, template: SetTemplate, volume: Volume): Resources {
  if (!template.volume)
    throw volumeConflict(`Service ${service.name} has no volume in its template.`);
  return {
    cpuMillis: template.cpuMillis,
    memoryBytes: template.memoryBytes,
    volumeBytes: Math.max(template.volume.sizeBytes, volume.sizeBytes),
    rootfsBytes: template.rootfsBytes,
  };
}

async function getTrashedVolume(
  q: Queryable,
  scope: string | null,
  volumeId: string,
): Promise<VolumeRow> {
  const volume = await findVolume(q, scope, volumeId);
  if (!volume) throw notFound("volume");
  if (volume.state !== "trashed") throw notTrashedError(volume);
  return volume;
}

/**
 * Chooses the addresses and host ports of the set. Throws state-conflict if a subnet has no free
 * address. Throws overloaded while another transaction has locked a subnet.
 */
async function chooseForSet(
  tx: UnitOfWork,
  ctx: ControlContext,
  set: {
    setId: string;
    hostId: string;
    generation: number;
    tenantId: string;
    serviceId: string;
    host: TakingHost;
    template: SetTemplate;
  },
): Promise<ChosenForPlacements> {
  const templateNetworks = await ensureTemplateNetworks(tx, ctx, set, set.template.networks);
  const publishedPorts = listPublished(set.template.ports);
  const { placements, chosen, isContended } = await chooseForPlacements(tx, [set], {
    requests: new Map([[set.setId, { templateNetworks, publishedPorts }]]),
    hosts: new Map([[set.hostId, set.host]]),
    range: ctx.settings.hostPortRange,
  });
  if (placements.length === 0 && isContended)
    throw new AppError("overloaded", {
      detail: "Another change of a network of the service is in progress. Retry the request later.",
      retryAfterMs: 1_000,
    });
  if (placements.length === 0)
    throw volumeConflict(
      "A network of the service has no free address. Remove sets from the network, or widen its pools.",
    );
  return chosen;
}

function assertMayRestore(
  volume: Volume,
  service: ServiceRow | undefined,
): asserts service is ServiceRow {
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
