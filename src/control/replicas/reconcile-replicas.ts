import type { JobRequest } from "../../contracts/jobs.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import {
  getSizedTemplate,
  lockServiceBriefly,
  type ServiceRow,
} from "../../db/queries/services/write-services.ts";
import {
  countLiveSets,
  insertPendingSets,
  lockFreeHosts,
  lockHosts,
  markSetsDeleted,
} from "../../db/queries/sets/write-sets.ts";
import { listReplacements, type Replacement } from "../../db/queries/operations/replacements.ts";
import { wakeRollout } from "../../db/queries/rollouts/rollouts.ts";
import { newIds } from "../../lib/ids.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { chooseSetRevisions } from "./choose-set-revisions.ts";
import { countReplaceable } from "../tenancy/quota.ts";
import { chooseRemovals, type Removal } from "./choose-removals.ts";

/**
 * Sets that one transaction adds. Later transactions add the others, so that a request for
 * thousands is answered soon, and the first sets are placed meanwhile.
 */
export const SETS_ADDED_MAX = 4_000;

/**
 * Sets that one transaction removes: it locks their hosts, for a fraction of a second. Each round
 * enqueues the next one.
 */
export const SETS_REMOVED_MAX = 300;

export interface ReconcileOutcome {
  created: number;
  deleted: number;
  /** The number of missing sets that the tenant's quota does not allow now. Omitted if 0. */
  held?: number;
}

/**
 * Brings the number of live sets of a service closer to the desired one, and enqueues the next
 * round if one is needed. Safe to run at any time, twice, or late. Returns undefined and changes
 * nothing if the service no longer exists or is newer than `generation`. A newer generation has its
 * own job. Throws overloaded if another transaction holds the lock of the service.
 */
export async function reconcileService(
  ctx: ControlContext,
  serviceId: string,
  generation = Number.POSITIVE_INFINITY,
): Promise<ReconcileOutcome | undefined> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceBriefly(tx, serviceId);
    if (!service || service.generation > generation) return undefined;
    return reconcileServiceSets(tx, service);
  });
}

/**
 * Does the same inside the caller's transaction, which holds the service's row lock: that lock
 * keeps two of these from both adding the missing sets.
 */
export async function reconcileServiceSets(
  tx: UnitOfWork,
  service: ServiceRow,
): Promise<ReconcileOutcome> {
  const desired = service.deleting ? 0 : service.desiredReplicas;
  const live = await countLiveSets(tx, service.id);
  if (live < desired)
    return addSets(tx, service, await getSizedTemplate(tx, service), desired - live);
  if (live > desired) return removeSets(tx, service, desired, live - desired);
  return { created: 0, deleted: 0 };
}

/** The job that places a service's new sets. */
export function placeSetsJob(service: Pick<ServiceRow, "id" | "generation">): JobRequest {
  return {
    name: "place-sets",
    jobId: `place:${service.id}:gen${service.generation}`,
    payload: { cause: "sets-added" },
  };
}

/** The jobs that follow an addition of sets: one places them, one adds the remaining ones. */
export function jobsForNewSets(service: ServiceRow, left: number): JobRequest[] {
  const place = placeSetsJob(service);
  return left > 0 ? [place, reconcileAgainJob(service, left)] : [place];
}

/** The job that continues the rounds of a service whose generation a change has raised. */
export function reconcileServiceJob(service: Pick<ServiceRow, "id" | "generation">): JobRequest {
  return reconcileAgainJob(service, 0);
}

/**
 * The job of the next round. Its id contains the number of sets left, so that BullMQ does not
 * mistake it for a retained job of an earlier round.
 */
function reconcileAgainJob(
  { id, generation }: Pick<ServiceRow, "id" | "generation">,
  left: number,
): JobRequest {
  return {
    name: "reconcile-service",
    jobId: `reconcile:${id}:gen${generation}-left${left}`,
    payload: { serviceId: id, generation },
  };
}

/**
 * Adds pending sets of the current revision, or of those that a rollout wants. Enqueues the jobs
 * that follow. Adds fewer sets while sets that are being removed use the quota. The `replicas`
 * sweep adds the others.
 */
async function addSets(
  tx: UnitOfWork,
  service: ServiceRow,
  template: SetTemplate,
  missing: number,
): Promise<ReconcileOutcome> {
  const wanted = Math.min(missing, SETS_ADDED_MAX);
  const added = await countReplaceable(tx, service.tenantId, template, wanted);
  if (added === 0) return { created: 0, deleted: 0, held: missing };
  for (const { revision, count } of await chooseSetRevisions(tx, service, added)) {
    const ofRevision =
      revision === service.revision ? template : await getSizedTemplate(tx, service, revision);
    await insertPendingSets(tx, {
      ids: newIds("set", count),
      tenantId: service.tenantId,
      serviceId: service.id,
      revision,
      priority: service.priority,
      cpuMillis: ofRevision.cpuMillis,
      memoryBytes: ofRevision.memoryBytes,
      volumeBytes: ofRevision.volume?.sizeBytes ?? 0,
      rootfsBytes: ofRevision.rootfsBytes,
    });
  }
  await wakeRollout(tx, service.id);
  const held = wanted - added;
  // The quota does not allow the others either. The `replicas` sweep adds them later.
  tx.enqueue(...jobsForNewSets(service, held > 0 ? 0 : missing - added));
  tx.signal(`service:${service.id}`);
  return { created: added, deleted: 0, ...(held > 0 ? { held: missing - added } : {}) };
}

/**
 * Removes the next surplus replicas of the service, and enqueues the next round.
 */
async function removeSets(
  tx: UnitOfWork,
  service: ServiceRow,
  desired: number,
  excess: number,
): Promise<ReconcileOutcome> {
  const removals = await chooseRemovals(tx, service, { desired, limit: SETS_REMOVED_MAX });
  const replacements = await listReplacements(
    tx,
    removals.map(({ id }) => id),
  );
  const { setIds, hostIds } = await lockRemovals(tx, removals, replacements);
  // A set that was placed since it was listed is not marked either: its host is not locked. The
  // next round chooses again.
  const marked = await markSetsDeleted(tx, setIds, hostIds);
  const markedIds = new Set(marked.map(({ id }) => id));
  const left = excess - removals.filter(({ id }) => markedIds.has(id)).length;
  await wakeRollout(tx, service.id);
  // The `replicas` sweep retries this later.
  if (marked.length === 0) return { created: 0, deleted: 0 };
  if (left > 0) tx.enqueue(reconcileAgainJob(service, left));
  tx.signal(...hostIds.map((id) => `host:${id}` as const), `service:${service.id}`);
  tx.emit({
    kind: "service-scaled",
    tenantId: service.tenantId,
    serviceId: service.id,
    generation: service.generation,
    data: { cause: "removal", service: service.name, removed: marked.length },
  });
  return { created: 0, deleted: marked.length };
}

/**
 * Locks the hosts of the removals, and returns the sets that can be marked. It leaves a removal to
 * the next round if another transaction has locked its host. Otherwise a round that waits for each
 * of 300 hosts would hold the others for seconds. The same applies to a set whose replacement is on
 * such a host, because both are removed together. If all hosts are locked, it waits for those of
 * one removal, so that each round makes progress.
 */
async function lockRemovals(
  tx: UnitOfWork,
  removals: readonly Removal[],
  replacements: readonly Replacement[],
): Promise<{ setIds: string[]; hostIds: string[] }> {
  const replacementBySetId = new Map(replacements.map((each) => [each.setId, each]));
  const groups = removals.map((set) => [set, replacementBySetId.get(set.id) ?? []].flat());
  let hostIds = await lockFreeHosts(tx, listHostIds(groups.flat()));
  const [first] = groups;
  if (hostIds.length === 0 && first !== undefined) {
    hostIds = listHostIds(first);
    await lockHosts(tx, hostIds);
  }
  const locked = new Set(hostIds);
  const isFree = ({ hostId }: { hostId: string | null }) => hostId === null || locked.has(hostId);
  const free = groups.filter((sets) => sets.every(isFree)).flat();
  return { setIds: free.map(({ id }) => id), hostIds };
}

function listHostIds(sets: readonly { hostId: string | null }[]): string[] {
  return [...new Set(sets.flatMap(({ hostId }) => hostId ?? []))];
}
