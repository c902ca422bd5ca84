import type { JobRing } from "../contracts/jobs.ts";
import type { SetTemplate } from "../contracts/set-template.ts";
import type { Queryable } from "../db/client.ts";
import { insertEvents } from "../db/queries/events.ts";
import { insertOutbox } from "../db/queries/outbox.ts";
import { findTemplate, lockServiceById, type ServiceRow } from "../db/queries/service-writes.ts";
import {
  countLiveSets,
  insertPendingSets,
  listReplacements,
  listScaleInVictims,
  lockHosts,
  markSetsDeleted,
} from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import { newIds } from "../lib/ids.ts";
import { assert } from "../lib/assert.ts";
import type { ServiceContext, SignalChannel } from "./context.ts";

/** What a transaction wants done after its commit: see `carryOut`. */
export interface Aftermath {
  rings: JobRing[];
  outboxIds: number[];
  signals: SignalChannel[];
}

export interface ReconcileOutcome extends Aftermath {
  created: number;
  deleted: number;
}

/** Rings and wakes what a committed transaction left to do. Never throws: whatever is lost here, sweeps find. */
export async function carryOut(ctx: ServiceContext, aftermath: Aftermath): Promise<void> {
  await Promise.all([
    aftermath.rings.length === 0
      ? undefined
      : ctx.doorbell.ring(aftermath.rings, aftermath.outboxIds),
    aftermath.signals.length === 0
      ? undefined
      : ctx.signals.publish([...aftermath.signals, "events"]),
  ]);
}

export function mergeAftermath(parts: readonly Aftermath[]): Aftermath {
  return {
    rings: parts.flatMap((part) => part.rings),
    outboxIds: parts.flatMap((part) => part.outboxIds),
    signals: [...new Set(parts.flatMap((part) => part.signals))],
  };
}

/**
 * Makes the number of live sets of a service what it should be. Safe to run at any time, twice, or late. Undefined, and
 * nothing done: the service is gone, or newer than `generation`, for which whoever changed it has rung already.
 */
export async function reconcileService(
  ctx: ServiceContext,
  serviceId: string,
  generation = Number.POSITIVE_INFINITY,
): Promise<ReconcileOutcome | undefined> {
  const outcome = await withTx(ctx.db, async (tx) => {
    const service = await lockServiceById(tx, serviceId);
    if (!service || service.generation > generation) return undefined;
    return reconcileServiceSets(tx, service);
  });
  if (outcome) await carryOut(ctx, outcome);
  return outcome;
}

/**
 * The same inside the caller's transaction, which holds the service's row lock: that lock is what keeps two of
 * these from both adding the missing sets. The caller passes the outcome to `carryOut` after commit.
 */
export async function reconcileServiceSets(
  tx: Queryable,
  service: ServiceRow,
): Promise<ReconcileOutcome> {
  const desired = service.deleting ? 0 : service.desiredReplicas;
  const live = await countLiveSets(tx, service.id);
  if (live < desired) {
    const template = await findTemplate(tx, service.id, service.revision);
    assert(template, "a service's newest revision exists");
    return addSets(tx, service, template, desired - live);
  }
  if (live > desired) return removeSets(tx, service, live - desired);
  return { created: 0, deleted: 0, rings: [], outboxIds: [], signals: [] };
}

/** The job that places a service's new sets. */
export function placeSetsRing(service: Pick<ServiceRow, "id" | "generation">): JobRing {
  return {
    name: "place-sets",
    jobId: `place:${service.id}:gen${service.generation}`,
    payload: { cause: "sets-added" },
  };
}

/** Adds pending sets of the newest revision, whose template it is, and leaves the placement job to be rung. */
async function addSets(
  tx: Queryable,
  service: ServiceRow,
  template: SetTemplate,
  count: number,
): Promise<ReconcileOutcome> {
  const ring = placeSetsRing(service);
  const [, outboxIds] = await Promise.all([
    insertPendingSets(tx, {
      ids: newIds("set", count),
      tenantId: service.tenantId,
      serviceId: service.id,
      revision: service.revision,
      priority: service.priority,
      cpuMillis: template.cpuMillis,
      memoryBytes: template.memoryBytes,
      volumeBytes: template.volume?.sizeBytes ?? 0,
      rootfsBytes: template.rootfsBytes,
    }),
    insertOutbox(tx, [ring]),
  ]);
  return {
    created: count,
    deleted: 0,
    rings: [ring],
    outboxIds,
    signals: [`service:${service.id}`],
  };
}

async function removeSets(
  tx: Queryable,
  service: ServiceRow,
  count: number,
): Promise<ReconcileOutcome> {
  const victims = await listScaleInVictims(tx, service.id, count);
  const replacements = await listReplacements(
    tx,
    victims.map(({ id }) => id),
  );
  const all = [...victims, ...replacements];
  const hostIds = [...new Set(all.flatMap(({ hostId }) => hostId ?? []))];
  await lockHosts(tx, hostIds);
  // A victim that was placed since it was listed is not marked, as its host is not locked: the next round, which the
  // outbox rings, finds it.
  const marked = await markSetsDeleted(
    tx,
    all.map(({ id }) => id),
    hostIds,
  );
  const left = victims.filter(({ id }) => !marked.some((set) => set.id === id)).length;
  const outcome: ReconcileOutcome = {
    created: 0,
    deleted: marked.length,
    rings: [],
    outboxIds: [],
    signals: [...hostIds.map((id): SignalChannel => `host:${id}`), `service:${service.id}`],
  };
  if (left > 0) {
    // The number left tells rounds apart, so that a retained job id does not swallow the next one.
    const again: JobRing = {
      name: "reconcile-service",
      jobId: `reconcile:${service.id}:gen${service.generation}-left${left}`,
      payload: { serviceId: service.id, generation: service.generation },
    };
    outcome.rings.push(again);
    outcome.outboxIds.push(...(await insertOutbox(tx, [again])));
  }
  await insertEvents(tx, [
    {
      kind: "service-scaled",
      text: `${marked.length} sets of ${service.name} are being removed`,
      tenantId: service.tenantId,
      serviceId: service.id,
      generation: service.generation,
      data: { removed: marked.length },
    },
  ]);
  return outcome;
}
