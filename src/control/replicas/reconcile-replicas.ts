import type { JobRing } from "../../contracts/jobs.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { insertEvents } from "../../db/queries/events/write-events.ts";
import { insertOutbox } from "../../db/queries/runtime/outbox.ts";
import {
  findTemplate,
  lockServiceById,
  type ServiceRow,
} from "../../db/queries/services/write-services.ts";
import {
  countLiveSets,
  insertPendingSets,
  listReplacements,
  listScaleInVictims,
  lockHosts,
  markSetsDeleted,
} from "../../db/queries/sets/write-sets.ts";
import { withTx } from "../../db/transaction.ts";
import { newIds } from "../../lib/ids.ts";
import { assert } from "../../lib/assert.ts";
import type { ServiceContext, SignalChannel } from "../runtime/context.ts";

/**
 * Sets that one transaction adds. More are added by transactions of their own, so that whoever asks for thousands is answered soon, and
 * the first are placed while the others are added.
 */
export const SETS_ADDED_MAX = 4_000;

/** What a transaction wants done after its commit: see `carryOut`. */
export interface Aftermath {
  rings: JobRing[];
  outboxIds: number[];
  signals: SignalChannel[];
}

export const nothingLeft = (): Aftermath => ({ rings: [], outboxIds: [], signals: [] });

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
 * Brings the number of live sets of a service to what it should be, or nearer to it and rings for the rest. Safe to run at any
 * time, twice, or late. Undefined, and nothing done: the service is gone, or newer than `generation`, for which whoever changed it
 * has rung already.
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
  return { created: 0, deleted: 0, ...nothingLeft() };
}

/** The job that places a service's new sets. */
export function placeSetsRing(service: Pick<ServiceRow, "id" | "generation">): JobRing {
  return {
    name: "place-sets",
    jobId: `place:${service.id}:gen${service.generation}`,
    payload: { cause: "sets-added" },
  };
}

/** What to ring once sets were added: the job that places them, and the one that adds those that are `left`. */
export function ringsOfAdded(service: ServiceRow, left: number): JobRing[] {
  const place = placeSetsRing(service);
  return left > 0 ? [place, reconcileAgainRing(service, left)] : [place];
}

/** For what this round left. Their number tells rounds apart, so that a retained job id does not swallow the next one. */
function reconcileAgainRing({ id, generation }: ServiceRow, left: number): JobRing {
  return {
    name: "reconcile-service",
    jobId: `reconcile:${id}:gen${generation}-left${left}`,
    payload: { serviceId: id, generation },
  };
}

/** Adds pending sets of the newest revision, whose template it is, and leaves jobs to be rung: see ringsOfAdded. */
async function addSets(
  tx: Queryable,
  service: ServiceRow,
  template: SetTemplate,
  lacking: number,
): Promise<ReconcileOutcome> {
  const added = Math.min(lacking, SETS_ADDED_MAX);
  const rings = ringsOfAdded(service, lacking - added);
  const [, outboxIds] = await Promise.all([
    insertPendingSets(tx, {
      ids: newIds("set", added),
      tenantId: service.tenantId,
      serviceId: service.id,
      revision: service.revision,
      priority: service.priority,
      cpuMillis: template.cpuMillis,
      memoryBytes: template.memoryBytes,
      volumeBytes: template.volume?.sizeBytes ?? 0,
      rootfsBytes: template.rootfsBytes,
    }),
    insertOutbox(tx, rings),
  ]);
  return {
    created: added,
    deleted: 0,
    rings,
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
    const again = reconcileAgainRing(service, left);
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
