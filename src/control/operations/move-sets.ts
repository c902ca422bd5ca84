import { createReason } from "../../contracts/api/reason-texts.ts";
import { volumeDataSql } from "../../db/queries/volumes/volumes.ts";
import {
  cancelDrainMoves,
  blockOperations,
  deleteOrphanedOperations,
  endOperations,
  expireOperation,
  insertDrainMoves,
  listDecidedReplacements,
  listDueOperations,
  listExpiredOperations,
  listServicesWithDueOperations,
  type ReplacedSet,
  type WaitingOperation,
  waitAgain,
  wakeOperations,
} from "../../db/queries/operations/operations.ts";
import { interruptResizesForDrains, listMissedDrains } from "../../db/queries/operations/drains.ts";
import { lockServiceBriefly, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { lockHosts, markSetsDeleted } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { FleetCache } from "../placement/fleet-cache.ts";
import { adoptPreviousMoves } from "./adopt-previous-moves.ts";
import { claimTargets } from "./claim-targets.ts";
import { changesHost, decideOperations } from "./decide-operations.ts";
import { placeClaimedSets } from "./place-claimed-sets.ts";
import { startOperations } from "./start-operations.ts";

const SERVICES_PER_ROUND_MAX = 200;
/** Bounds the locks and the time of one transaction. */
const SETS_PER_SERVICE_MAX = 200;
const SETS_PER_ROUND_MAX = 1_000;
const RETRY_MS_MAX = 60_000;
/** The time for the replacements of a round, and again for its services. The next one continues. */
const PART_MS_MAX = 15_000;
/** A round handles many services, so it waits less for the lock of each than a job does. */
const LOCK_WAIT_MS = 100;

/**
 * Moves sets off their hosts. One per process: it keeps the fleet in memory, and its rounds run one
 * after the other.
 */
export interface Mover {
  /** Advances every operation that can proceed. Returns how many advanced. */
  moveSets(signal?: AbortSignal): Promise<number>;
}

interface RoundOptions {
  after: string;
  limit: number;
  partMsMax: number;
  signal: AbortSignal | undefined;
}

/**
 * Advances set operations (see docs/internals/operations.md): moves by a drain or by a user, and
 * resizes without capacity on their hosts. Each step passes mayDisrupt (I14).
 *
 * A running set without a volume is replaced first: Berth removes it once its replacement is ready.
 * A set with a volume, or one that is stopped, stops first and is placed again as the same set.
 */
export function createMover(
  ctx: ControlContext,
  {
    servicesPerRoundMax: limit = SERVICES_PER_ROUND_MAX,
    partMsMax = PART_MS_MAX,
  }: { servicesPerRoundMax?: number; partMsMax?: number } = {},
): Mover {
  const cache = new FleetCache({ reportAgeMaxMs: ctx.settings.reportAgeMaxMs });
  /** The last service of the previous round. The next round starts after it, which is fair. */
  let last = "";
  let tail: Promise<unknown> = Promise.resolve();
  return {
    moveSets(signal) {
      const run = tail.then(async () => {
        const round = await runRound(ctx, cache, { after: last, limit, partMsMax, signal });
        last = round.last;
        return round.steps;
      });
      tail = run.catch(() => undefined); // the caller of that run has its error
      return run;
    },
  };
}

async function runRound(
  ctx: ControlContext,
  cache: FleetCache,
  { after, limit, partMsMax, signal }: RoundOptions,
): Promise<{ steps: number; last: string }> {
  const firstSteps: Record<string, () => Promise<unknown>> = {
    "adopt moves": () => adoptPreviousMoves(ctx),
    "delete orphaned operations": () => deleteOrphanedOperations(ctx.db),
    "place claimed sets": () => placeClaimedSets(ctx, cache),
    "report missed drains": () => reportMissedDrains(ctx),
    "expire operations": () => expireOperations(ctx),
    "interrupt resizes": () => interruptResizesForDrains(ctx.db, SETS_PER_ROUND_MAX),
  };
  for (const [step, run] of Object.entries(firstSteps)) {
    if (signal?.aborted) return { steps: 0, last: after };
    await tryStep(ctx, step, run, undefined);
  }
  const end = () => endDecidedReplacements(ctx, limitTime(signal, partMsMax));
  let steps = await tryStep(ctx, "end replacements", end, 0);
  if (signal?.aborted) return { steps, last: after };
  const cancel = () => cancelDrainMoves(ctx.db, SETS_PER_ROUND_MAX);
  await tryStep(ctx, "cancel moves of drains", cancel, undefined);
  const insert = () => insertDrainMoves(ctx.db, SETS_PER_ROUND_MAX);
  await tryStep(ctx, "insert moves of drains", insert, 0);
  const list = () => listServicesWithDueOperations(ctx.db, after, limit);
  const due = await tryStep(ctx, "list due services", list, undefined);
  if (due === undefined) return { steps, last: after };
  // The fleet is read outside of the transactions below, which lock services and hosts.
  if (due.length > 0) await cache.refreshInBackground(ctx.db);
  const timeLimit = limitTime(signal, partMsMax);
  let last = after;
  for (const serviceId of due) {
    if (signal?.aborted) return { steps, last };
    await cache.load(ctx.db); // again after a refresh that failed halfway
    // A transaction refreshes the fleet before its first write. So its rollback takes back nothing
    // that is in the fleet.
    const step = (tx: UnitOfWork, service: ServiceRow) => beginOperations(tx, service, cache);
    steps += await withServiceLock(ctx, serviceId, step);
    last = serviceId;
    if (timeLimit.aborted) return { steps, last }; // after one service at least
  }
  return { steps, last: due.length < limit ? "" : (due.at(-1) ?? "") };
}

/**
 * Runs a step of the round. If the step fails, it logs the error and returns `otherwise`. The other
 * steps run, and the next round retries this one.
 */
async function tryStep<T>(
  ctx: ControlContext,
  step: string,
  run: () => Promise<T>,
  otherwise: T,
): Promise<T> {
  try {
    return await run();
  } catch (error) {
    ctx.log.warn({ err: error, step }, "a step of the mover failed; the next round retries it");
    return otherwise;
  }
}

function limitTime(signal: AbortSignal | undefined, timeMs: number): AbortSignal {
  const timeLimit = AbortSignal.timeout(timeMs);
  return signal ? AbortSignal.any([signal, timeLimit]) : timeLimit;
}

async function endDecidedReplacements(ctx: ControlContext, signal: AbortSignal): Promise<number> {
  let steps = 0;
  const decided = await listDecidedReplacements(ctx.db, { limit: SETS_PER_ROUND_MAX });
  for (const serviceId of new Set(decided.map((replaced) => replaced.serviceId))) {
    steps += await withServiceLock(ctx, serviceId, endReplacements);
    if (signal.aborted) break;
  }
  return steps;
}

/**
 * Runs a step in a transaction that locks the service. An error affects only this service: the next
 * round retries it.
 */
async function withServiceLock(
  ctx: ControlContext,
  serviceId: string,
  step: (tx: UnitOfWork, service: ServiceRow) => Promise<number>,
): Promise<number> {
  try {
    return await unitOfWork(ctx, async (tx) => {
      const service = await lockServiceBriefly(tx, serviceId, LOCK_WAIT_MS);
      return service === undefined ? 0 : step(tx, service);
    });
  } catch (error) {
    ctx.log.warn({ err: error, serviceId }, "operations of a service failed");
    return 0;
  }
}

async function beginOperations(
  tx: UnitOfWork,
  service: ServiceRow,
  cache: FleetCache,
): Promise<number> {
  const due = await lockDueOperations(tx, service);
  if (due.length === 0) return 0;
  const decisions = await claimTargets(tx, await decideOperations(tx, service, due, cache));
  const started = await startOperations(tx, service, decisions);
  const blocked = decisions.flatMap(({ operation, step, reason }) =>
    step === "wait"
      ? { setId: operation.setId, reason, retryAfterMs: retryDelayMs(operation.attempts) }
      : [],
  );
  const news = new Set(await blockOperations(tx, blocked));
  for (const { setId, reason } of blocked) {
    if (!news.has(setId)) continue;
    const { hostId } = due.find((operation) => operation.setId === setId) ?? { hostId: null };
    const about = { tenantId: service.tenantId, serviceId: service.id, setId, hostId };
    tx.emit({ kind: "set-warning", data: { warning: reason.text }, ...about });
  }
  return started;
}

/**
 * Reads the due operations after locking their hosts, because reports may change the sets
 * meanwhile. A set may become ready and count against the budget, or write data that binds it to
 * its host. An operation that needs the lock of another host waits for the next round.
 */
async function lockDueOperations(
  tx: UnitOfWork,
  { id: serviceId, disruption }: ServiceRow,
): Promise<WaitingOperation[]> {
  const read = () =>
    listDueOperations(tx, serviceId, { volumeDataSql, limit: SETS_PER_SERVICE_MAX });
  const needsLock = (operation: WaitingOperation) => changesHost(operation, disruption);
  const seen = await read();
  const hostIds = new Set(seen.filter(needsLock).map(({ hostId }) => hostId));
  if (hostIds.size === 0) return seen;
  await lockHosts(tx, [...hostIds]);
  const due = await read();
  return due.filter((operation) => !needsLock(operation) || hostIds.has(operation.hostId));
}

/** The first three tries are immediate: the state of a service often changes between two rounds. */
function retryDelayMs(attempts: number): number {
  return attempts < 3 ? 0 : Math.min(RETRY_MS_MAX, 1_000 * 2 ** (attempts - 2));
}

/** Removes the replaced sets or the replacements, as `listDecidedReplacements` decides. */
async function endReplacements(tx: UnitOfWork, service: ServiceRow): Promise<number> {
  const decided = await listDecidedReplacements(tx, {
    serviceId: service.id,
    limit: SETS_PER_SERVICE_MAX,
  });
  const removedSets = decided.map(getRemoved);
  const hostIds = [...new Set(removedSets.flatMap(({ hostId }) => hostId ?? []))];
  await lockHosts(tx, hostIds);
  const removed = new Set(
    (
      await markSetsDeleted(
        tx,
        removedSets.map(({ id }) => id),
        hostIds,
      )
    ).map(({ id }) => id),
  );
  tx.signal(...hostIds.map((id) => `host:${id}` as const), `service:${service.id}`);
  if (decided.length > 0) await wakeOperations(tx, service.id, SETS_PER_SERVICE_MAX);
  for (const replaced of decided) {
    const isRemoved =
      removed.has(getRemoved(replaced).id) ||
      (replaced.outcome !== "ready" && !replaced.isReplacementLive);
    if (!isRemoved) continue; // it was placed meanwhile, on a host that is not locked: next round
    await endReplacement(tx, service, replaced);
    tx.signal(`set:${replaced.setId}`);
  }
  return decided.length;
}

function getRemoved({ outcome, setId, hostId, replacementSetId, replacementHostId }: ReplacedSet) {
  return outcome === "ready"
    ? { id: setId, hostId }
    : { id: replacementSetId, hostId: replacementHostId };
}

async function endReplacement(
  tx: UnitOfWork,
  service: ServiceRow,
  { setId, hostId, replacementSetId, outcome, isForced }: ReplacedSet,
): Promise<void> {
  const about = { tenantId: service.tenantId, serviceId: service.id, setId, hostId };
  switch (outcome) {
    case "ready":
      tx.emit({
        kind: "set-moved",
        data: { cause: "replacement-ready", replacementSetId },
        ...about,
      });
      return;
    case "canceled":
      await endOperations(tx, [setId]);
      tx.emit({ kind: "set-moved", data: { cause: "canceled" }, ...about });
      return;
    case "expired": {
      const reason = createReason("replacement-not-ready", { replacementSetId }, "placement");
      await waitAgain(tx, setId, { reason, retryAfterMs: isForced ? 0 : RETRY_MS_MAX });
      tx.emit({ kind: "set-warning", data: { warning: reason.text }, ...about });
    }
  }
}

/** Ends operations that waited past their deadline. Their sets are not moved. */
async function expireOperations(ctx: ControlContext): Promise<void> {
  const expired = await listExpiredOperations(ctx.db, SETS_PER_ROUND_MAX);
  for (const { serviceId, setId } of expired) {
    await withServiceLock(ctx, serviceId, async (tx, service) => {
      const reason = createReason("operation-expired", {}, "placement");
      if (!(await expireOperation(tx, setId, { kind: "move", outcome: "expired", reason })))
        return 0;
      const { tenantId } = service;
      tx.emit({ kind: "set-warning", data: { warning: reason.text }, tenantId, serviceId, setId });
      tx.signal(`set:${setId}`, `service:${serviceId}`);
      return 1;
    });
  }
}

/** Reports, once, each drain that missed its deadline. A forced drain then ignores budgets. */
async function reportMissedDrains(ctx: ControlContext): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    for (const { hostId, hostName: host, isForced, sets } of await listMissedDrains(tx)) {
      const data = { cause: "deadline-missed" as const, host, sets, isForced };
      tx.emit({ kind: "host-draining", data, hostId });
    }
  });
}
