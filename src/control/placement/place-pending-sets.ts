import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import {
  commitPlacements,
  type CommittedPlacement,
  listDuePendingSets,
  listDuePlacementSpecs,
  lockPlacement,
  type PendingSetRow,
  type PlacementInput,
  recordRejections,
  type RejectionInput,
} from "../../db/queries/placement/placements.ts";
import { useCustomPlans } from "../../db/transaction.ts";
import { assert } from "../../lib/assert.ts";
import { newIds } from "../../lib/ids.ts";
import { explainRejection } from "../../scheduler/placement/explain.ts";
import { fitsHost } from "../../scheduler/placement/fits.ts";
import type { PlacementRequest, Plan, Rejection } from "../../scheduler/placement/model.ts";
import { planPlacements } from "../../scheduler/placement/plan.ts";
import type { ControlContext, SignalChannel } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { FleetCache, hostSnapshotOf } from "./fleet-cache.ts";
import { buildPlacementRequests, type PendingSets } from "./placement-requests.ts";

/** Sets per transaction: large enough that the commit is a small part, small enough that the first are placed soon. */
const SETS_PER_BATCH_MAX = 4_000;
/** So few sets are read with plans that are kept: most of the time it is one, and planning its statements would take longer than it. */
const SMALL_BATCH_SETS_MAX = 32;
/** So few are booked by a statement each, for the same reason. */
const SINGLE_SET_COMMITS_MAX = 4;
const BATCHES_PER_RUN_MAX = 200;
/** Batches in a row in which every placement was overtaken; then the sweep tries again later. */
const CONFLICTED_BATCHES_MAX = 5;
/** A waiter for one set is woken by name up to this many; beyond, it finds out at its next poll. */
const SET_SIGNALS_MAX = 200;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 30_000;

export interface PlaceOutcome {
  placed: number;
  rejected: number;
  /** Planned, but no longer possible on the locked rows; they are planned again in the next batch. */
  conflicts: number;
  batches: number;
}

/** Places pending sets. One per process: it keeps the fleet in memory, and its runs wait for each other. */
export interface Placer {
  placeSets(): Promise<PlaceOutcome>;
}

export function createPlacer(ctx: ControlContext): Placer {
  const cache = new FleetCache({ reportAgeMaxMs: ctx.settings.reportAgeMaxMs });
  let tail: Promise<unknown> = Promise.resolve();
  return {
    placeSets() {
      const run = tail.then(() => placeAll(ctx, cache));
      tail = run.catch(() => undefined); // the caller of that run has its error
      return run;
    },
  };
}

async function placeAll(ctx: ControlContext, cache: FleetCache): Promise<PlaceOutcome> {
  const total: PlaceOutcome = { placed: 0, rejected: 0, conflicts: 0, batches: 0 };
  let conflicted = 0;
  while (total.batches < BATCHES_PER_RUN_MAX && conflicted < CONFLICTED_BATCHES_MAX) {
    const batch = await placeBatch(ctx, cache, conflicted === 0);
    if (!batch) break;
    total.batches++;
    total.placed += batch.placed.length;
    total.rejected += batch.rejected;
    total.conflicts += batch.conflicts;
    conflicted = batch.placed.length === 0 && batch.conflicts > 0 ? conflicted + 1 : 0;
    await ctx.signals.publish(signalsOf(batch.placed));
    if (batch.isLast) break;
  }
  return total;
}

interface BatchOutcome {
  placed: CommittedPlacement[];
  rejected: number;
  conflicts: number;
  /** Nothing else was due. What came to be since then rings for itself. */
  isLast: boolean;
}

/**
 * One transaction: refresh the fleet, plan what is due, check the plan again on locked hosts with the same function,
 * book it. For one set that check is that its host is still what it was planned with, which is locked with the booking: a round trip
 * less. Undefined: nothing is due. After an error the cache starts anew, as it may have seen what was rolled back.
 * @param isFirstTry otherwise hosts are locked before, so that one that keeps changing takes sets all the same
 */
async function placeBatch(
  ctx: ControlContext,
  cache: FleetCache,
  isFirstTry: boolean,
): Promise<BatchOutcome | undefined> {
  try {
    const batch = await unitOfWork(ctx, async (tx) => {
      const [, { fleet, policy, nowMs }, few] = await Promise.all([
        lockPlacement(tx),
        cache.refresh(tx),
        readDue(tx, SMALL_BATCH_SETS_MAX + 1),
      ]);
      const due = few.pending.length > SMALL_BATCH_SETS_MAX ? await readFullBatch(tx) : few;
      const { pending } = due;
      if (pending.length === 0) return undefined;
      const requests = await buildPlacementRequests(tx, due);
      const plan = planPlacements(fleet, requests, { seed: policy.version, nowMs });
      const pendingById = new Map(pending.map((set) => [set.id, set]));
      const hostVersion = isFirstTry ? versionOfOnlyHost(plan, cache) : undefined;
      const planned = plannedOf(plan, pendingById);
      const admitted =
        hostVersion === undefined
          ? await admitOnLockedHosts(tx, cache, planned, requests)
          : planned;
      const rejections = rejectionsOf(plan, pendingById);
      const isLargeBatch = rejections.length > 0 || admitted.length > SINGLE_SET_COMMITS_MAX;
      const stored = tx.sendWithCommit(async () => {
        // Started together, in this order: a statement that waited for another would come after the commit.
        const [, placed] = await Promise.all([
          isLargeBatch && useCustomPlans(tx),
          // Hosts are locked before sets: bookings come before rejections.
          commitAll(tx, admitted, plan.policyVersion, hostVersion),
          recordRejections(tx, rejections, plan.policyVersion),
        ]);
        return placed;
      });
      return {
        pending: pending.length,
        planned: planned.length,
        rejected: rejections.length,
        stored,
      };
    });
    if (!batch) return undefined;
    const placed = await batch.stored;
    const conflicts = batch.planned - placed.length;
    const isLast = batch.pending < SETS_PER_BATCH_MAX && conflicts === 0;
    return { placed, rejected: batch.rejected, conflicts, isLast };
  } catch (error) {
    cache.reset();
    throw error;
  }
}

async function readDue(tx: Queryable, limit: number): Promise<PendingSets> {
  const [pending, specs] = await Promise.all([
    listDuePendingSets(tx, limit),
    listDuePlacementSpecs(tx, limit),
  ]);
  return { pending, specs };
}

async function readFullBatch(tx: Queryable): Promise<PendingSets> {
  const [, due] = await Promise.all([useCustomPlans(tx), readDue(tx, SETS_PER_BATCH_MAX)]);
  return due;
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

/** Of a plan for one set, as most are: what its host was when it was planned. */
function versionOfOnlyHost({ placements }: Plan, cache: FleetCache): string | undefined {
  const [only, ...others] = placements;
  return only && others.length === 0 ? cache.hostVersion(only.hostId) : undefined;
}

function plannedOf(plan: Plan, pending: ReadonlyMap<string, PendingSetRow>): PlacementInput[] {
  const ids = newIds("plc", plan.placements.length);
  return plan.placements.map(({ setId, hostId, score, because }, position) => {
    const placementId = ids[position];
    const set = pending.get(setId);
    assert(set && placementId !== undefined, "what is planned is pending");
    return { placementId, setId, hostId, generation: set.generation, score, because };
  });
}

/**
 * Locks the hosts in id order and keeps the placements that still fit them, each counted on top of those before it (I2).
 */
async function admitOnLockedHosts(
  tx: Queryable,
  cache: FleetCache,
  planned: readonly PlacementInput[],
  requests: readonly PlacementRequest[],
): Promise<PlacementInput[]> {
  if (planned.length === 0) return [];
  const asks = new Map(requests.map((request) => [request.setId, request.ask]));
  const hostIds = [...new Set(planned.map((placement) => placement.hostId))];
  const rows = await lockFleetHosts(tx, hostIds);
  const hosts = new Map(rows.map((row) => [row.id, hostSnapshotOf(row)]));
  cache.forgetHosts(hostIds.filter((id) => !hosts.has(id)));
  return planned.filter(({ setId, hostId }) => {
    const host = hosts.get(hostId);
    const ask = asks.get(setId);
    if (!host || !ask || host.readiness !== "ready") return false;
    if (!fitsHost(host, cache.poolPolicy(host.pool), ask).ok) return false;
    for (const dimension of ["cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"] as const) {
      host.allocated[dimension] += ask[dimension];
      host.placedSinceReport[dimension] += ask[dimension];
    }
    return true;
  });
}

function rejectionsOf(plan: Plan, pending: ReadonlyMap<string, PendingSetRow>): RejectionInput[] {
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

/** 0.5 s doubling to 30 s; more room anywhere shortens it (see retryPendingSets). */
export function retryDelayMs(attempts: number): number {
  return Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(attempts, 10));
}

function signalsOf(placed: readonly CommittedPlacement[]): SignalChannel[] {
  const channels = new Set<SignalChannel>();
  if (placed.length > 0) channels.add("events");
  for (const placement of placed) {
    channels.add(`host:${placement.hostId}`);
    channels.add(`service:${placement.serviceId}`);
    if (placed.length <= SET_SIGNALS_MAX) channels.add(`set:${placement.setId}`);
  }
  return [...channels];
}
