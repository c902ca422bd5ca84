import { volumeDataSql } from "../../db/queries/volumes/volumes.ts";
import { listHostsWithEndedClaims } from "../../db/queries/operations/claims.ts";
import { blockOperations } from "../../db/queries/operations/block-operations.ts";
import {
  cancelDrainMoves,
  deleteOrphanedOperations,
} from "../../db/queries/operations/end-operations.ts";
import {
  listDueOperations,
  listServicesWithDueOperations,
  listServicesWithExpiredOperations,
  type WaitingOperation,
} from "../../db/queries/operations/read-operations.ts";
import { insertDrainMoves } from "../../db/queries/operations/start-operations.ts";
import { interruptResizesForDrains, listMissedDrains } from "../../db/queries/operations/drains.ts";
import { listServicesWithDecidedReplacements } from "../../db/queries/operations/replacements.ts";
import { listServicesWithDueRollouts, wakeRollout } from "../../db/queries/rollouts/rollouts.ts";
import { lockServiceBriefly, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { FleetCache } from "../placement/fleet-cache.ts";
import { adoptPreviousMoves } from "./adopt-previous-moves.ts";
import { advanceRollout } from "../rollouts/advance-rollout.ts";
import { claimTargets } from "./claim-targets.ts";
import { changesHost, decideOperations } from "./decide-operations.ts";
import { endReplacements } from "./end-replacements.ts";
import { expireServiceOperations } from "./expire-operations.ts";
import { placeClaimedSets } from "./place-claimed-sets.ts";
import { type LoopBounds, Rotation } from "./rotation.ts";
import { startOperations } from "./start-operations.ts";

const SERVICES_PER_ROUND_MAX = 200;
const HOSTS_PER_ROUND_MAX = 200;
/** Bounds the locks and the time of one transaction. */
const SETS_PER_SERVICE_MAX = 200;
const SETS_PER_ROUND_MAX = 1_000;
const RETRY_MS_MAX = 60_000;
/** The time of a round. The next one continues. */
const ROUND_MS_MAX = 30_000;
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

interface RoundBounds {
  servicesMax: number;
  timeMs: number;
  signal: AbortSignal | undefined;
}

/**
 * Advances set operations (see docs/internals/operations.md): moves by a drain or by a user,
 * resizes without capacity on their hosts, and updates by rollouts. Each step passes mayDisrupt
 * (I14).
 *
 * A running set without a volume is replaced first: Berth removes it once its replacement is ready.
 * A set with a volume, or one that is stopped, stops first and is placed again as the same set.
 */
export function createMover(
  ctx: ControlContext,
  {
    servicesPerRoundMax: servicesMax = SERVICES_PER_ROUND_MAX,
    roundMsMax: timeMs = ROUND_MS_MAX,
  }: { servicesPerRoundMax?: number; roundMsMax?: number } = {},
): Mover {
  const cache = new FleetCache(ctx.settings);
  const loops = createLoops(ctx);
  let tail: Promise<unknown> = Promise.resolve();
  let next: Promise<number> | undefined;
  return {
    moveSets(signal) {
      // A round that has not begun reads what this call would read, so reports share rounds.
      if (next) return next;
      const run = tail.then(() => {
        next = undefined;
        return runRound(ctx, cache, loops, { servicesMax, timeMs, signal });
      });
      next = run;
      tail = run.catch(() => undefined); // the caller of that run has its error
      return run;
    },
  };
}

/** The loops of a round, in their order. */
function createLoops({ db }: ControlContext) {
  return {
    claims: new Rotation((after, limit) => listHostsWithEndedClaims(db, after, limit)),
    expired: new Rotation((after, limit) => listServicesWithExpiredOperations(db, after, limit)),
    decided: new Rotation((after, limit) => listServicesWithDecidedReplacements(db, after, limit)),
    rollouts: new Rotation((after, limit) => listServicesWithDueRollouts(db, after, limit)),
    due: new Rotation((after, limit) => listServicesWithDueOperations(db, after, limit)),
  };
}

/**
 * Runs one round. It ends when its signal aborts or its time ends. Each loop has an equal share of
 * the time that is left, and handles one item at least. So no loop prevents another one.
 */
async function runRound(
  ctx: ControlContext,
  cache: FleetCache,
  loops: ReturnType<typeof createLoops>,
  { servicesMax, timeMs, signal }: RoundBounds,
): Promise<number> {
  const endsAtMs = performance.now() + timeMs;
  let loopsLeft = Object.keys(loops).length;
  let advanced = 0;
  const nextBounds = (itemsMax: number): LoopBounds => {
    const nowMs = performance.now();
    return { itemsMax, signal, endsAtMs: nowMs + Math.max(0, endsAtMs - nowMs) / loopsLeft-- };
  };
  // A transaction refreshes the fleet before its first write. So its rollback takes back nothing
  // that is in the fleet.
  const begin = async (serviceId: string): Promise<void> => {
    await cache.load(ctx.db); // again after a refresh that failed halfway
    const step = (tx: UnitOfWork, service: ServiceRow) => beginOperations(tx, service, cache);
    advanced += await withServiceLock(ctx, serviceId, step);
  };
  const end = async (serviceId: string): Promise<void> => {
    advanced += await withServiceLock(ctx, serviceId, endReplacements);
  };
  const advance = async (serviceId: string): Promise<void> => {
    await withServiceLock(ctx, serviceId, advanceRollout);
  };
  const expire = (serviceId: string) => withServiceLock(ctx, serviceId, expireServiceOperations);
  const place = (hostId: string) => placeClaimedSets(ctx, cache, hostId);
  // The fleet is read outside of the transactions, which lock services and hosts.
  const refresh = () => cache.refreshInBackground(ctx.db);
  const steps: Record<string, () => Promise<unknown>> = {
    "adopt moves": () => adoptPreviousMoves(ctx),
    "delete orphaned operations": () => deleteOrphanedOperations(ctx.db),
    "place claimed sets": () => loops.claims.run(nextBounds(HOSTS_PER_ROUND_MAX), place, refresh),
    "report missed drains": () => reportMissedDrains(ctx),
    "expire operations": () => loops.expired.run(nextBounds(servicesMax), expire),
    "interrupt resizes": () => interruptResizesForDrains(ctx.db, SETS_PER_ROUND_MAX),
    "end replacements": () => loops.decided.run(nextBounds(servicesMax), end),
    "cancel moves of drains": () => cancelDrainMoves(ctx.db, SETS_PER_ROUND_MAX),
    "insert moves of drains": () => insertDrainMoves(ctx.db, SETS_PER_ROUND_MAX),
    // Directly before the next loop, which begins the updates that a rollout orders.
    "advance rollouts": () => loops.rollouts.run(nextBounds(servicesMax), advance),
    "begin operations": () => loops.due.run(nextBounds(servicesMax), begin, refresh),
  };
  for (const [name, run] of Object.entries(steps)) {
    if (signal?.aborted) break;
    await tryStep(ctx, name, run);
  }
  return advanced;
}

/**
 * Runs a step of the round. If it fails, it logs the error. The other steps run, and the next round
 * retries this one.
 */
async function tryStep(
  ctx: ControlContext,
  step: string,
  run: () => Promise<unknown>,
): Promise<void> {
  try {
    await run();
  } catch (error) {
    ctx.log.warn({ err: error, step }, "a step of the mover failed; the next round retries it");
  }
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
  const decisions = await claimTargets(tx, await decideOperations(tx, service, due, cache), cache);
  const started = await startOperations(tx, service, decisions);
  const blocked = decisions.flatMap(({ operation, step, reason }) =>
    step === "wait"
      ? { setId: operation.setId, reason, retryAfterMs: retryDelayMs(operation.attempts) }
      : [],
  );
  const news = new Set(await blockOperations(tx, blocked));
  // The rollout may choose another method for them.
  if (blocked.some(({ reason }) => reason.code === "update-held"))
    await wakeRollout(tx, service.id);
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
    listDueOperations(tx, serviceId, {
      volumeDataSql,
      minReadySeconds: disruption.minReadySeconds,
      limit: SETS_PER_SERVICE_MAX,
    });
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

/** Reports, once, each drain that missed its deadline. A forced drain then ignores budgets. */
async function reportMissedDrains(ctx: ControlContext): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    for (const { hostId, hostName: host, isForced, sets } of await listMissedDrains(tx)) {
      const data = { cause: "deadline-missed" as const, host, sets, isForced };
      tx.emit({ kind: "host-draining", data, hostId });
    }
  });
}
