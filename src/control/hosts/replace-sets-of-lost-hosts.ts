import { LEASE_SECONDS } from "../../contracts/agent-protocol/protocol.ts";
import {
  type DownGracePeriods,
  isFleetWatchDue,
  recordFleetWatch,
} from "../../db/queries/hosts/fleet-watch.ts";
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
/** The sets of one service that one transaction abandons. The next round abandons the others. */
const ABANDONED_SETS_MAX = 1_000;
const HELD_SETS_PER_ROUND_MAX = 1_000;
/**
 * After an outage, hosts get this many grace periods to return: four times the longest agent
 * backoff (30 s).
 */
const GRACE_PERIODS_AFTER_OUTAGE = 4;

export interface LostHostsOutcome {
  lost: number;
  replacedSets: number;
  /** Hosts whose sets are not replaced, because too many hosts of their pool are down. */
  held: number;
}

/**
 * Records that this process watches the fleet (I12), unless another one has just done so. All job
 * workers call it, so neither a long failover nor the end of one job worker counts as an outage.
 */
export async function watchFleet(ctx: ControlContext): Promise<void> {
  if (await isFleetWatchDue(ctx.db)) await recordFleetWatch(ctx.db);
}

/**
 * Marks hosts with a missed lease as lost. After a grace period, it replaces their sets as the
 * policies of their services require. If the Docker daemon of a host does not respond, the same
 * applies to the host after one extra lease. The `failover` sweep calls it.
 *
 * Two conditions pause the replacement (I12). Without a recently synced host, Berth itself was
 * probably down. If many hosts of a pool go down together, probably their network failed: see
 * decideFailover.
 *
 * It handles services independently, a few at a time. The next round, 2 s later, retries a service
 * that failed or was locked. All job workers may call it concurrently. After an abort of `signal`,
 * it handles no further service in this round.
 */
export async function replaceSetsOfLostHosts(
  ctx: ControlContext,
  signal?: AbortSignal,
): Promise<LostHostsOutcome> {
  const { isOutage } = await recordFleetWatch(ctx.db);
  const lost = await markLost(ctx, signal);
  if (isOutage) return { lost, replacedSets: 0, held: 0 };
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
 * Marks hosts in small transactions. After a long outage of the API all hosts have missed their
 * leases, and their returning agents need these rows.
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
    for (const { serviceIds } of marked)
      tx.signal(...serviceIds.map((id) => `service:${id}` as const));
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

/** Emits one event for each host when the replacement of its sets is paused. */
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
      "replacement paused: too many hosts went down together",
    );
}

/** Emits one event for each set that waits for a down host with its volume data (I13). */
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
    afterOutageMs: lostMs * GRACE_PERIODS_AFTER_OUTAGE,
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
          ctx.log.warn({ err: error, serviceId }, "cannot replace the sets of lost hosts");
          return 0;
        }
      }),
    ),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/**
 * Abandons a service's sets on these hosts, then adds replacements in a second transaction. The
 * second one may lock other hosts, and the lock order requires hosts in the order of their ids.
 * After a crash in between, the `replicas` sweep adds the missing sets.
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
