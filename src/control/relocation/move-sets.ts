import type { EventKind } from "../../contracts/api/events.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { listAllHostPools, lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import {
  endMove,
  endReplacements,
  holdSetsBack,
  listNeedlessReplacements,
  listReplacedSets,
  listSetsToMove,
  type MovingSet,
  noteWaitingMoves,
  type ReplacedSet,
} from "../../db/queries/relocation/moves.ts";
import { resizeSets } from "../../db/queries/services/resizes.ts";
import {
  findTemplate,
  lockServiceById,
  type ServiceRow,
} from "../../db/queries/services/write-services.ts";
import {
  insertPendingSets,
  lockHosts,
  markSetsDeleted,
  updatePlacedSet,
} from "../../db/queries/sets/write-sets.ts";
import { assert } from "../../lib/assert.ts";
import { newIds } from "../../lib/ids.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { FleetCache, hostSnapshotOf, planPolicyOf } from "../placement/fleet-cache.ts";
import { planMoves } from "../placement/find-room.ts";
import { amountsOfTemplate, fitsGrowth, growthOf } from "../placement/growth.ts";
import { cutText } from "../../lib/text/truncate.ts";

const SERVICES_PER_ROUND_MAX = 200;
const WAITING_PER_ROUND_MAX = 1_000;

/** Moves sets off their hosts. One per process: it keeps the fleet in memory, and its rounds wait for each other. */
export interface Mover {
  /** The next step of everything that is to move. Gives how many sets took one. */
  moveSets(): Promise<number>;
}

/**
 * Moves sets that somebody wants elsewhere: off hosts that are being drained, by hand, or because a resize found no room. Of each service one
 * at a time, and only where the planner finds a host that would take it; otherwise the set stays and says why.
 *
 * A running set without a volume is replaced: another is placed elsewhere, and once that is ready this one is removed. So nothing is
 * taken away before there is something in its place, however long that takes. A set with a volume, of which there
 * cannot be two, and one that is stopped leave their host first and are placed again, as the same set.
 */
export function createMover(
  ctx: ControlContext,
  { servicesPerRoundMax = SERVICES_PER_ROUND_MAX }: { servicesPerRoundMax?: number } = {},
): Mover {
  const cache = new FleetCache({ reportAgeMaxMs: ctx.settings.reportAgeMaxMs });
  /** The service whose turn came last: whoever is held back must not keep the others from theirs. */
  let last = "";
  let tail: Promise<unknown> = Promise.resolve();
  return {
    moveSets() {
      const run = tail.then(async () => {
        const round = await moveNext(ctx, cache, { after: last, limit: servicesPerRoundMax });
        last = round.last;
        return round.steps;
      });
      tail = run.catch(() => undefined); // the caller of that run has its error
      return run;
    },
  };
}

async function moveNext(
  ctx: ControlContext,
  cache: FleetCache,
  { after, limit }: { after: string; limit: number },
): Promise<{ steps: number; last: string }> {
  let steps = 0;
  for (const { serviceId } of await listNeedlessReplacements(ctx.db, { limit }))
    if (await take(ctx, serviceId, removeNeedless)) steps++;
  for (const { serviceId } of await listReplacedSets(ctx.db, { limit }))
    if (await take(ctx, serviceId, removeReplaced)) steps++;
  await endReplacements(ctx.db);
  const due = await listSetsToMove(ctx.db, { limit, after });
  for (const { serviceId } of due) {
    const begin = (tx: UnitOfWork, service: ServiceRow) => beginMove(ctx, tx, service, cache);
    if (await take(ctx, serviceId, begin, () => cache.reset())) steps++;
  }
  await noteWaitingMoves(ctx.db, WAITING_PER_ROUND_MAX);
  return { steps, last: due.length < limit ? "" : (due.at(-1)?.serviceId ?? "") };
}

/**
 * A step under the service's lock, which looks again at what there is to do: by then it may be something else, or nothing. The trouble of
 * one service holds up no other; it is tried again in the next round.
 */
async function take(
  ctx: ControlContext,
  serviceId: string,
  step: (tx: UnitOfWork, service: ServiceRow) => Promise<boolean>,
  onError: () => void = () => undefined,
): Promise<boolean> {
  try {
    return await unitOfWork(ctx, async (tx) => {
      const service = await lockServiceById(tx, serviceId);
      return service !== undefined && (await step(tx, service));
    });
  } catch (error) {
    onError(); // the cache may have seen what was rolled back
    ctx.log.warn({ err: error, serviceId }, "sets not moved");
    return false;
  }
}

async function removeNeedless(tx: UnitOfWork, service: ServiceRow): Promise<boolean> {
  const [needless] = await listNeedlessReplacements(tx, { serviceId: service.id, limit: 1 });
  if (!needless) return false;
  const hostIds = needless.hostId === null ? [] : [needless.hostId];
  await lockHosts(tx, hostIds);
  const [removed] = await markSetsDeleted(tx, [needless.id], hostIds);
  if (removed) tx.signal(...signalsOf(removed));
  return removed !== undefined;
}

/** The replacement counts from now on in its place. */
async function removeReplaced(tx: UnitOfWork, service: ServiceRow): Promise<boolean> {
  const [replaced] = await listReplacedSets(tx, { serviceId: service.id, limit: 1 });
  if (!replaced) return false;
  const { id, serviceId, hostId, replacementId } = replaced;
  const hostIds = hostId === null ? [] : [hostId];
  await lockHosts(tx, hostIds);
  const [removed] = await markSetsDeleted(tx, [id], hostIds);
  if (!removed) return false;
  tx.emit({
    kind: "set-moved",
    text: `${replacementId} is ready in its place; it is removed`,
    tenantId: service.tenantId,
    serviceId,
    setId: id,
    hostId,
  });
  tx.signal(...signalsOf(removed));
  return true;
}

function signalsOf({ id, serviceId, hostId }: Pick<ReplacedSet, "id" | "serviceId" | "hostId">) {
  const host = hostId === null ? [] : [`host:${hostId}` as const];
  return [...host, `set:${id}` as const, `service:${serviceId}` as const];
}

async function beginMove(
  ctx: ControlContext,
  tx: UnitOfWork,
  service: ServiceRow,
  cache: FleetCache,
): Promise<boolean> {
  const [set] = await listSetsToMove(tx, { serviceId: service.id, limit: 1 });
  if (!set) return false;
  const template = await findTemplate(tx, service.id, set.toRevision);
  assert(template, "the revision that a set is to be of exists");
  if (set.toRevision !== set.revision && (await growInPlace(tx, service, set, template))) {
    tx.signal(...signalsOf(set));
    return true;
  }
  const move = { setId: set.id, hostId: set.hostId, template };
  const rejection = await planMoves(ctx, tx, service, [move], cache);
  if (rejection !== undefined) return holdBack(tx, service, set, rejection);
  return set.desired === "running" && template.volume === null
    ? replaceSet(tx, service, set, template)
    : sendAway(tx, service, set, template);
}

/** A set that was to move for its size has room where it is by now: others have left. */
async function growInPlace(
  tx: UnitOfWork,
  service: ServiceRow,
  set: MovingSet,
  template: SetTemplate,
): Promise<boolean> {
  const [pools, [row]] = await Promise.all([
    listAllHostPools(tx),
    lockFleetHosts(tx, [set.hostId]),
  ]);
  const isDraining = !row || row.draining;
  if (
    isDraining ||
    !fitsGrowth(hostSnapshotOf(row), planPolicyOf(pools, 0), growthOf(set, template)).ok
  )
    return false;
  const amounts = amountsOfTemplate(template);
  await resizeSets(tx, { setIds: [set.id], toRevision: set.toRevision, amounts });
  emitMove(tx, service, set, "there is room for its new size where it is by now");
  return true;
}

async function holdBack(
  tx: UnitOfWork,
  service: ServiceRow,
  set: MovingSet,
  rejection: string,
): Promise<false> {
  const text = `it is to leave ${set.hostName}, and stays until it fits elsewhere: ${rejection}`;
  const reason = { code: "move-held", text: cutText(text, 2_000), phase: "placement" };
  const news = await holdSetsBack(tx, [{ setId: set.id, reason }]);
  if (news.length > 0) emitMove(tx, service, set, text, "set-warning");
  return false;
}

async function replaceSet(
  tx: UnitOfWork,
  service: ServiceRow,
  set: MovingSet,
  template: SetTemplate,
): Promise<boolean> {
  const ids = newIds("set", 1);
  tx.enqueue({ name: "place-sets", jobId: `place:${ids[0]}`, payload: { cause: "set-moved" } });
  await Promise.all([
    insertPendingSets(tx, {
      ids,
      tenantId: service.tenantId,
      serviceId: service.id,
      revision: set.toRevision,
      priority: service.priority,
      ...amountsOfTemplate(template),
      rootfsBytes: template.rootfsBytes,
      replaces: set.id,
      avoidHostIds: [set.hostId],
    }),
    holdSetsBack(tx, [{ setId: set.id, reason: null }]),
  ]);
  emitMove(
    tx,
    service,
    set,
    `${ids[0]} is to take its place elsewhere; it stays until that is ready`,
  );
  tx.signal(...signalsOf(set));
  return true;
}

/** It is removed from its host and placed again, as what it is to be. */
async function sendAway(
  tx: UnitOfWork,
  service: ServiceRow,
  set: MovingSet,
  template: SetTemplate,
): Promise<boolean> {
  await lockHosts(tx, [set.hostId]);
  const changed = await updatePlacedSet(tx, set.id, set.hostId, {
    leaving: true,
    revision: set.toRevision,
  });
  if (!changed) return false;
  await endMove(tx, set.id);
  const volume = template.volume
    ? `; its volume stays in the trash of ${set.hostName}, and it starts with an empty one`
    : "";
  emitMove(tx, service, set, `it leaves ${set.hostName} to be placed again${volume}`);
  tx.signal(...signalsOf(set));
  return true;
}

function emitMove(
  tx: UnitOfWork,
  service: ServiceRow,
  set: MovingSet,
  text: string,
  kind: EventKind = "set-moved",
): void {
  const { id: setId, hostId } = set;
  const about = { tenantId: service.tenantId, serviceId: service.id, setId, hostId };
  tx.emit({ kind, text: cutText(text, 2_000), ...about });
}
