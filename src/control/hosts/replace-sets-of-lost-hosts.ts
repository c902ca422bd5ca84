import { LEASE_SECONDS } from "../../contracts/agent-protocol/protocol.ts";
import { type DownGracePeriods, recordFleetWatch } from "../../db/queries/hosts/fleet-watch.ts";
import {
  abandonSets,
  countReadyHostsByPool,
  endReplacementHolds,
  holdSetsWithVolumeData,
  listDownHosts,
  listHostsToReplace,
  listServicesToReplace,
  markExpiredHostsLost,
  markReplacementHeld,
} from "../../db/queries/hosts/lost-hosts.ts";
import { claimServiceById } from "../../db/queries/services/write-services.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import { createConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { reconcileService } from "../replicas/reconcile-replicas.ts";
import { decideFailover, type FailoverDecision } from "./decide-failover.ts";

/** The down hosts of one round. The next rounds handle further ones. */
const DOWN_HOSTS_PER_ROUND_MAX = 10_000;
/** Bounds the locks of one transaction, which also changes all sets of these hosts. */
const MARKED_HOSTS_MAX = 50;
const SERVICES_PER_ROUND_MAX = 500;
const SERVICES_AT_ONCE_MAX = 4;
/** The number of hosts that one transaction locks. */
const LOCKED_HOSTS_MAX = 200;
/** The sets of one service that one transaction gives up. The next round gives up the rest. */
const ABANDONED_SETS_MAX = 1_000;
const HELD_SETS_PER_ROUND_MAX = 1_000;
/** The longest backoff of an agent is 30 s, the default of the grace period. */
const GRACE_PERIODS_AFTER_GAP = 4;

export interface LostHostsOutcome {
  lost: number;
  replacedSets: number;
  /** Hosts whose replacement is on hold, because too many hosts of their pool are down. */
  held: number;
}

/**
 * Marks hosts lost that missed their lease. After a grace period, it replaces their sets as the
 * policies of their services require. A host whose Docker daemon does not respond is treated like a
 * lost host, after one extra lease.
 *
 * Two conditions delay failover (I12). Without a ready host that synced recently, Berth itself was
 * probably down. A pool that loses a large share of its hosts at once probably lost its network:
 * see decideFailover.
 *
 * Services are handled independently, a few at a time. The next round, 2 s later, retries a service
 * that fails or is locked. All job workers may call it concurrently. After an abort of
 * `signal`, it handles no further service in this round.
 */
export async function replaceSetsOfLostHosts(
  ctx: ControlContext,
  signal?: AbortSignal,
): Promise<LostHostsOutcome> {
  const { isGap } = await recordFleetWatch(ctx.db);
  const lost = await markLost(ctx, signal);
  if (isGap) return { lost, replacedSets: 0, held: 0 };
  const grace = toGracePeriods(ctx);
  const [downHosts, readyHosts] = await Promise.all([
    listDownHosts(ctx.db, grace, DOWN_HOSTS_PER_ROUND_MAX),
    countReadyHostsByPool(ctx.db),
  ]);
  const decision = decideFailover(downHosts, readyHosts, ctx.settings.lostHostsPercentMax);
  await recordHeldHosts(ctx, decision.hold);
  if (downHosts.length === 0) return { lost, replacedSets: 0, held: 0 };
  await holdSets(ctx, grace);
  const hostIds = decision.replace.map((host) => host.id);
  const replacedSets = await replaceServices(ctx, hostIds, grace, signal);
  return { lost, replacedSets, held: decision.hold.length };
}

/**
 * Marks hosts in small transactions: after a long outage of the API all hosts are silent, and their
 * returning agents need these rows.
 */
async function markLost(ctx: ControlContext, signal: AbortSignal | undefined): Promise<number> {
  let total = 0;
  for (let marked = MARKED_HOSTS_MAX; marked === MARKED_HOSTS_MAX; total += marked) {
    if (total >= DOWN_HOSTS_PER_ROUND_MAX || signal?.aborted) break;
    marked = await markSomeLost(ctx);
  }
  return total;
}

async function markSomeLost(ctx: ControlContext): Promise<number> {
  return unitOfWork(ctx, async (tx) => {
    const marked = await markExpiredHostsLost(tx, MARKED_HOSTS_MAX);
    tx.emit(
      ...marked.map((host) => ({
        kind: "host-lost" as const,
        data: { host: host.name },
        hostId: host.id,
      })),
    );
    return marked.length;
  });
}

/** Emits one event for each host whose replacement is on hold from now on. An operator decides. */
async function recordHeldHosts(ctx: ControlContext, hold: FailoverDecision["hold"]): Promise<void> {
  const heldIds = hold.map(({ host }) => host.id);
  const newlyHeld = await unitOfWork(ctx, async (tx) => {
    await endReplacementHolds(tx, heldIds);
    const newIds = new Set(await markReplacementHeld(tx, heldIds));
    tx.emit(
      ...hold
        .filter(({ host }) => newIds.has(host.id))
        .map(({ host, down, total }) => ({
          kind: "replacement-held" as const,
          data: { pool: host.pool, hostsDown: down, hostsTotal: total },
          hostId: host.id,
        })),
    );
    return newIds.size;
  });
  if (newlyHeld > 0)
    ctx.log.error(
      { heldHosts: hold.length },
      "replacement on hold: too many hosts went down together",
    );
}

/** Emits one event for each set that waits for its down host, which has its volume data (I13). */
async function holdSets(ctx: ControlContext, grace: DownGracePeriods): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const held = await holdSetsWithVolumeData(tx, grace, HELD_SETS_PER_ROUND_MAX);
    tx.emit(
      ...held.map(({ explanation, ...subjects }) => ({
        kind: "set-held" as const,
        data: { explanation },
        ...subjects,
      })),
    );
    tx.signal(...held.map(({ setId }) => `set:${setId}` as const));
  });
}

function toGracePeriods({ settings }: ControlContext): DownGracePeriods {
  const lostMs = settings.hostLostGraceMs;
  return {
    lostMs,
    unhealthyMs: lostMs + LEASE_SECONDS * 1_000,
    afterGapMs: lostMs * GRACE_PERIODS_AFTER_GAP,
  };
}

async function replaceServices(
  ctx: ControlContext,
  hostIds: readonly string[],
  grace: DownGracePeriods,
  signal: AbortSignal | undefined,
): Promise<number> {
  const serviceIds = await listServicesToReplace(ctx.db, hostIds, SERVICES_PER_ROUND_MAX);
  const limit = createConcurrencyLimit(SERVICES_AT_ONCE_MAX);
  const counts = await Promise.all(
    serviceIds.map((serviceId) =>
      limit(async () => {
        if (signal?.aborted) return 0;
        try {
          return await replaceSets(ctx, serviceId, hostIds, grace);
        } catch (error) {
          ctx.log.warn({ err: error, serviceId }, "sets of lost hosts not replaced");
          return 0;
        }
      }),
    ),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/**
 * Gives up a service's sets on these hosts, then adds replacements in a second transaction. That
 * one may lock other hosts, and the lock order requires hosts in the order of their ids. A crash in
 * between leaves too few sets, which the sweep corrects.
 */
async function replaceSets(
  ctx: ControlContext,
  serviceId: string,
  hostIds: readonly string[],
  grace: DownGracePeriods,
): Promise<number> {
  const abandoned = await unitOfWork(ctx, async (tx) => {
    const service = await claimServiceById(tx, serviceId);
    if (!service) return 0;
    const lockedIds = await listHostsToReplace(tx, serviceId, hostIds, LOCKED_HOSTS_MAX);
    await lockHosts(tx, lockedIds);
    const sets = await abandonSets(tx, serviceId, lockedIds, grace, ABANDONED_SETS_MAX);
    tx.emit(
      ...sets.map((set) => ({
        kind: "set-lost" as const,
        data: {
          cause:
            set.hostState === "lost" ? ("host-lost" as const) : ("docker-unresponsive" as const),
          host: set.hostName,
          isReplaced: true,
        },
        tenantId: service.tenantId,
        serviceId,
        setId: set.setId,
        hostId: set.hostId,
      })),
    );
    // The agent of an unhealthy host syncs: it removes the old sets once its Docker daemon
    // responds.
    tx.signal(...sets.map(({ hostId }) => `host:${hostId}` as const));
    return sets.length;
  });
  if (abandoned > 0) await reconcileService(ctx, serviceId);
  return abandoned;
}
