import { setTimeout as delay } from "node:timers/promises";
import type { PortRange } from "../../contracts/common/port-ranges.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  type DueSets,
  listDueSets,
  type PendingSetRow,
} from "../../db/queries/placement/due-sets.ts";
import { lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import {
  commitPlacements,
  type CommittedPlacement,
  type PlacementInput,
  recordRejections,
  type RejectionInput,
  tryLockPlacement,
} from "../../db/queries/placement/placements.ts";
import { useCustomPlans } from "../../db/transaction.ts";
import { assert } from "../../lib/assert.ts";
import { watchWork } from "../../lib/async/watch-work.ts";
import { newIds } from "../../lib/ids.ts";
import { hasFeatures } from "../../scheduler/placement/filters.ts";
import { explainRejection } from "../../scheduler/placement/explain.ts";
import type { Plan, PlanPolicy, Rejection } from "../../scheduler/placement/model.ts";
import { planPlacements } from "../../scheduler/placement/plan.ts";
import type { ControlContext, SignalChannel, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { ensureDefaultNetworks } from "../networks/default-network.ts";
import {
  chooseForPlacements,
  type ChosenForPlacements,
  nothingChosen,
  storeChosen,
} from "./choose-for-placements.ts";
import { FleetCache, type RefreshedFleet } from "./fleet-cache.ts";
import { reserveIfFits } from "./growth.ts";
import { toHostSnapshot } from "./host-snapshot.ts";
import { retryDelayMs } from "./retry-delay.ts";
import { buildPlacementRequests, type PendingRequest } from "./placement-requests.ts";

/** Large enough that the commit is a small part, small enough that the first sets start soon. */
const SETS_PER_BATCH_MAX = 4_000;
/** After a batch of mostly rejections: many sets wait, and some are new. */
const SETS_PER_MIXED_BATCH_MAX = 500;
/** After a batch of rejections only, even in the next run. A new set waits for such a batch. */
const SETS_PER_RETRY_BATCH_MAX = 50;
/** Up to this number a statement per set is faster, because its generic plan exists. */
const SINGLE_SET_COMMITS_MAX = 4;
const BATCHES_PER_RUN_MAX = 200;
/** Below the timeout of a job, because many due retries may fill any number of batches. */
const RUN_MS_MAX = 60_000;
/** Successive batches in which all placements conflicted. The `placement` sweep retries them. */
const CONFLICTED_BATCHES_MAX = 5;
/** After a run that placed this many sets, the placer pauses for its duration: batches grow. */
const PLACED_BEFORE_PAUSE = 8;
const PAUSE_MS_MAX = 100;
/** A run ends if it waits longer for the placement lock. The `placement` sweep retries it. */
const LOCK_WAIT_MS_MAX = 10_000;
const LOCK_RETRY_MS_MIN = 10;
const LOCK_RETRY_MS_MAX = 40;
/** Beyond this number of placed sets, waiters for single sets read them at their next poll. */
const SET_SIGNALS_MAX = 200;
/** A batch that takes longer hangs: the deadlines of its statements are far below this time. */
const BATCH_MS_MAX = 5 * 60_000;

export interface PlaceOutcome {
  placed: number;
  rejected: number;
  /** Placements that no longer fit on the locked rows. The next batch plans these sets again. */
  conflicts: number;
  batches: number;
}

/**
 * Places pending sets. One per process: it has the fleet in memory, and its runs do not overlap.
 */
export interface Placer {
  placeSets(): Promise<PlaceOutcome>;
  /**
   * Refreshes the fleet in memory unless a run does so anyway. Called each second, it keeps the
   * refresh of the next placement small, and loads the fleet before the first one.
   */
  refreshFleet(): Promise<void>;
}

export interface PlacerOptions {
  /** Called when a batch hangs. The process should exit, so that another places the sets. */
  onHung?: () => void;
  batchMsMax?: number;
}

export function createPlacer(ctx: ControlContext, options: PlacerOptions = {}): Placer {
  const { onHung = () => undefined, batchMsMax = BATCH_MS_MAX } = options;
  const cache = new FleetCache(ctx.settings);
  const placing: Placing = {
    cache,
    setsMax: SETS_PER_BATCH_MAX,
    tryBatch: (attempt) => watchWork(placeBatch(ctx, cache, attempt), batchMsMax, onHung),
  };
  let tail: Promise<unknown> = Promise.resolve();
  let runs = 0;
  let pausesUntilMs = 0;
  const runAfterPause = async (): Promise<PlaceOutcome> => {
    const pauseMs = pausesUntilMs - performance.now();
    if (pauseMs > 0) await delay(pauseMs);
    const startedAtMs = performance.now();
    const outcome = await placeAll(ctx, placing);
    if (outcome.placed >= PLACED_BEFORE_PAUSE)
      pausesUntilMs = performance.now() + Math.min(PAUSE_MS_MAX, performance.now() - startedAtMs);
    return outcome;
  };
  return {
    placeSets() {
      runs++;
      const run = tail.then(runAfterPause).finally(() => runs--);
      tail = run.catch(() => undefined); // the caller of that run has its error
      return run;
    },
    async refreshFleet() {
      if (runs === 0) await cache.refreshInBackground(ctx.db);
    },
  };
}

interface Placing {
  cache: FleetCache;
  /** The limit of the next batch, by the outcome of the previous one. */
  setsMax: number;
  tryBatch: (attempt: BatchAttempt) => Promise<BatchOutcome | "idle" | "locked">;
}

async function placeAll(ctx: ControlContext, placing: Placing): Promise<PlaceOutcome> {
  const { cache, tryBatch } = placing;
  const total: PlaceOutcome = { placed: 0, rejected: 0, conflicts: 0, batches: 0 };
  let conflicted = 0;
  let lockedSinceMs: number | undefined;
  await cache.load(ctx.db);
  const endMs = performance.now() + RUN_MS_MAX;
  const mayContinue = () => total.batches < BATCHES_PER_RUN_MAX && performance.now() < endMs;
  while (mayContinue() && conflicted < CONFLICTED_BATCHES_MAX) {
    const isContended = lockedSinceMs !== undefined;
    const { setsMax } = placing;
    const batch = await tryBatch({ setsMax, isContended, hasConflicted: conflicted > 0 });
    if (batch === "idle") break;
    if (batch === "locked") {
      lockedSinceMs ??= performance.now();
      if (performance.now() - lockedSinceMs > LOCK_WAIT_MS_MAX) break;
      await delay(LOCK_RETRY_MS_MIN + Math.random() * (LOCK_RETRY_MS_MAX - LOCK_RETRY_MS_MIN));
      continue;
    }
    lockedSinceMs = undefined;
    const placed = batch.placed.length;
    total.batches++;
    total.placed += placed;
    total.rejected += batch.rejected;
    total.conflicts += batch.conflicts;
    conflicted = placed === 0 && batch.conflicts > 0 ? conflicted + 1 : 0;
    placing.setsMax = nextSetsMax(batch);
    await ctx.signals.publish(toSignals(batch.placed));
    if (!batch.hasMore) break;
  }
  return total;
}

function nextSetsMax({ placed, rejected }: BatchOutcome): number {
  if (rejected <= placed.length) return SETS_PER_BATCH_MAX;
  return placed.length === 0 ? SETS_PER_RETRY_BATCH_MAX : SETS_PER_MIXED_BATCH_MAX;
}

interface BatchAttempt {
  setsMax: number;
  /** Another job worker had the lock. This attempt reads nothing before it has the lock. */
  isContended: boolean;
  /** Locks hosts before the check, so that a host that changes often accepts sets too. */
  hasConflicted: boolean;
}

interface BatchOutcome {
  placed: CommittedPlacement[];
  rejected: number;
  conflicts: number;
  /** More sets may be due. Later sets have jobs of their own. */
  hasMore: boolean;
}

/**
 * Places one batch in one transaction, under the placement lock:
 *
 * 1. Read what changed in the fleet, and the due sets. This shares one round trip with the lock.
 * 2. Plan, without the database.
 * 3. Admit the placements that fit on the locked hosts, by the planner's own function (I2). Choose
 *    addresses for sets on networked hosts, and host ports for published ports.
 * 4. Book them, and store the rejections. This shares one round trip with the commit.
 *
 * A plan with one placement skips step 3, if the host has no networks and the set publishes no
 * port. The booking locks the host, and requires the version of its row with which it was planned.
 *
 * The cache is read before the first write of the transaction, so a rollback leaves it valid.
 */
async function placeBatch(
  ctx: ControlContext,
  cache: FleetCache,
  { setsMax, isContended, hasConflicted }: BatchAttempt,
): Promise<BatchOutcome | "idle" | "locked"> {
  const batch = await unitOfWork(ctx, async (tx) => {
    if (isContended && !(await tryLockPlacement(tx))) return "locked";
    const read = await readBatch(tx, cache, setsMax);
    if (read === "locked" || read.due.sets.length === 0) return read === "locked" ? read : "idle";
    const due = await ensureDefaultNetworks(tx, ctx, read.due);
    const requests = await buildPlacementRequests(tx, due);
    const planned = planBatch({ ...read, due }, requests);
    const hostVersion = hasConflicted
      ? undefined
      : findOnlyHostVersion(planned.placements, requests, cache);
    const admitted =
      hostVersion === undefined
        ? await admitOnLockedHosts(
            tx,
            { cache, policy: read.policy, range: ctx.settings.hostPortRange },
            planned.placements,
            requests,
          )
        : { placements: planned.placements, chosen: nothingChosen };
    const stored = commitBatch(tx, { ...planned, ...admitted }, hostVersion);
    return { planned, stored, hasMore: due.hasMore };
  });
  if (typeof batch === "string") return batch;
  const { planned, stored, hasMore } = batch;
  const placed = await stored;
  const conflicts = planned.placements.length - placed.length;
  const rejected = planned.rejections.length;
  return { placed, rejected, conflicts, hasMore: hasMore || conflicts > 0 };
}

interface ReadBatch extends RefreshedFleet {
  due: DueSets;
}

/** Reads a batch in one round trip. If the lock is not free, it discards the rest. */
async function readBatch(
  tx: Queryable,
  cache: FleetCache,
  setsMax: number,
): Promise<ReadBatch | "locked"> {
  const [isLocked, fleet, due] = await Promise.all([
    tryLockPlacement(tx),
    cache.refresh(tx),
    listDueSets(tx, setsMax),
  ]);
  return isLocked ? { ...fleet, due } : "locked";
}

interface PlannedBatch {
  policyVersion: number;
  placements: PlacementInput[];
  rejections: RejectionInput[];
}

/** The placements that the commit books, and what their sets get. */
interface AdmittedPlacements {
  placements: PlacementInput[];
  chosen: ChosenForPlacements;
}

function planBatch(
  { fleet, policy, nowMs, due }: ReadBatch,
  requests: readonly PendingRequest[],
): PlannedBatch {
  const plan = planPlacements(fleet, requests, { seed: policy.version, nowMs });
  const pendingById = new Map(due.sets.map((set) => [set.id, set]));
  return {
    policyVersion: plan.policyVersion,
    placements: toPlacements(plan, pendingById, requests),
    rejections: toRejections(plan, pendingById),
  };
}

/** Sends the bookings and then the rejections with the commit: hosts are locked before sets. */
function commitBatch(
  tx: UnitOfWork,
  { policyVersion, placements, chosen, rejections }: PlannedBatch & AdmittedPlacements,
  hostVersion: string | undefined,
): Promise<CommittedPlacement[]> {
  const isLarge = rejections.length > 0 || placements.length > SINGLE_SET_COMMITS_MAX;
  return tx.sendWithCommit(async () => {
    // All start together: a statement that waited for another would come after the commit.
    const [, placed] = await Promise.all([
      isLarge && useCustomPlans(tx),
      commitAll(tx, placements, policyVersion, hostVersion),
      storeChosen(tx, chosen),
      recordRejections(tx, rejections, policyVersion),
    ]);
    return placed;
  });
}

async function commitAll(
  tx: Queryable,
  admitted: readonly PlacementInput[],
  policyVersion: number,
  hostVersion: string | undefined,
): Promise<CommittedPlacement[]> {
  if (admitted.length > SINGLE_SET_COMMITS_MAX)
    return commitPlacements(tx, admitted, policyVersion);
  const each = admitted.map((placement) =>
    commitPlacements(tx, [placement], policyVersion, hostVersion),
  );
  return (await Promise.all(each)).flat();
}

/**
 * Finds the version of the host row if the plan has one placement, of a set without published ports
 * and on a host without networks. Most plans have one.
 */
function findOnlyHostVersion(
  placements: readonly PlacementInput[],
  requests: readonly PendingRequest[],
  cache: FleetCache,
): string | undefined {
  const [only, ...others] = placements;
  if (!only || others.length > 0 || cache.hasNetworks(only.hostId)) return undefined;
  const request = requests.find(({ setId }) => setId === only.setId);
  if (!request || request.publishedPorts.length > 0) return undefined;
  return cache.hostVersion(only.hostId);
}

function toPlacements(
  plan: Plan,
  pending: ReadonlyMap<string, PendingSetRow>,
  requests: readonly PendingRequest[],
): PlacementInput[] {
  const overheads = new Map(requests.map(({ setId, overhead }) => [setId, overhead]));
  const ids = newIds("plc", plan.placements.length);
  return plan.placements.map(({ setId, hostId, score, because }, position) => {
    const placementId = ids[position];
    const set = pending.get(setId);
    const overhead = overheads.get(setId);
    assert(set && overhead && placementId !== undefined, "a planned set is pending");
    return { placementId, setId, hostId, generation: set.generation, overhead, score, because };
  });
}

/**
 * Locks the hosts in id order. Returns the placements that fit, each in addition to the previous
 * ones (I2), and whose sets get the addresses and host ports that they need.
 */
async function admitOnLockedHosts(
  tx: Queryable,
  { cache, policy, range }: { cache: FleetCache; policy: PlanPolicy; range: PortRange },
  planned: readonly PlacementInput[],
  requests: readonly PendingRequest[],
): Promise<AdmittedPlacements> {
  if (planned.length === 0) return { placements: [], chosen: nothingChosen };
  const requestBySetId = new Map(requests.map((request) => [request.setId, request]));
  const hostIds = [...new Set(planned.map((placement) => placement.hostId))];
  const rows = await lockFleetHosts(tx, hostIds);
  const hosts = new Map(rows.map((row) => [row.id, toHostSnapshot(row, cache.ignoredSelfTests)]));
  cache.forgetHosts(hostIds.filter((id) => !hosts.has(id)));
  const fitting = planned.filter(({ setId, hostId }) => {
    const host = hosts.get(hostId);
    const request = requestBySetId.get(setId);
    return (
      host?.readiness === "ready" &&
      request !== undefined &&
      hasFeatures(host, request.constraints.features) &&
      reserveIfFits(host, policy, request.resources).ok
    );
  });
  return chooseForPlacements(tx, fitting, { requests: requestBySetId, hosts, range });
}

function toRejections(plan: Plan, pending: ReadonlyMap<string, PendingSetRow>): RejectionInput[] {
  const texts = new Map<Rejection["reasons"], string>(); // equal sets share one reasons object
  return plan.rejections.flatMap((rejection) => {
    const set = pending.get(rejection.setId);
    if (!set) return [];
    const text = texts.get(rejection.reasons) ?? explainRejection(rejection);
    texts.set(rejection.reasons, text);
    return {
      setId: rejection.setId,
      generation: set.generation,
      text,
      reasons: rejection.reasons,
      hostsTotal: rejection.hostsTotal,
      retryAfterMs: retryDelayMs(set.attempts),
      forgetAvoided: set.avoidHostIds.length > 0,
    };
  });
}

function toSignals(placed: readonly CommittedPlacement[]): SignalChannel[] {
  const channels = new Set<SignalChannel>();
  if (placed.length > 0) channels.add("events");
  for (const placement of placed) {
    channels.add(`host:${placement.hostId}`);
    channels.add(`service:${placement.serviceId}`);
    if (placed.length <= SET_SIGNALS_MAX) channels.add(`set:${placement.setId}`);
  }
  return [...channels];
}
