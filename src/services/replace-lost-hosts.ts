import { insertEvents } from "../db/queries/events.ts";
import {
  abandonLostSets,
  countPoolHosts,
  listHostsToReplace,
  listServicesToReplace,
  type LostHostRow,
  markExpiredHostsLost,
  restartLostClockWithoutWitness,
} from "../db/queries/host-lifecycle.ts";
import { lockServiceById } from "../db/queries/service-writes.ts";
import { lockHosts } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import type { ServiceContext } from "./context.ts";
import { carryOut, reconcileServiceSets } from "./reconcile-service.ts";

const HOSTS_PER_ROUND_MAX = 1_000;
const SERVICES_PER_HOST_MAX = 5_000;

export interface LostHostsOutcome {
  lost: number;
  replacedSets: number;
  /** Hosts whose sets were left alone because too many are lost at once. */
  held: number;
}

/**
 * Finds hosts whose lease ran out and, after a grace time, has the sets of services that want it replaced elsewhere.
 *
 * What holds it back (I12): no other host was heard of during the grace time, so that Berth itself may have been away; or more than a share of the
 * pool is lost at once, which is a network that is cut rather than so many machines that broke.
 */
export async function replaceLostHosts(ctx: ServiceContext): Promise<LostHostsOutcome> {
  const lost = await markLost(ctx);
  if (await restartLostClockWithoutWitness(ctx.db)) return { lost, replacedSets: 0, held: 0 };
  const outcome: LostHostsOutcome = { lost, replacedSets: 0, held: 0 };
  for (const host of await listHostsToReplace(
    ctx.db,
    ctx.settings.hostLostGraceMs,
    HOSTS_PER_ROUND_MAX,
  )) {
    if (await isTooManyLost(ctx, host)) {
      outcome.held++;
      continue;
    }
    for (const serviceId of await listServicesToReplace(ctx.db, host.id, SERVICES_PER_HOST_MAX)) {
      outcome.replacedSets += await replaceSets(ctx, serviceId, host);
    }
  }
  if (outcome.held > 0)
    ctx.log.warn({ heldHosts: outcome.held }, "replacement held: too many hosts lost at once");
  return outcome;
}

async function markLost(ctx: ServiceContext): Promise<number> {
  const lost = await withTx(ctx.db, async (tx) => {
    const marked = await markExpiredHostsLost(tx, HOSTS_PER_ROUND_MAX);
    await insertEvents(
      tx,
      marked.map((host) => ({
        kind: "host-lost" as const,
        text: `${host.name} is lost: its lease ran out`,
        hostId: host.id,
      })),
    );
    return marked;
  });
  if (lost.length > 0) await ctx.signals.publish(["events"]);
  return lost.length;
}

async function isTooManyLost(ctx: ServiceContext, host: LostHostRow): Promise<boolean> {
  const { total, lost } = await countPoolHosts(ctx.db, host.pool);
  return lost > 1 && lost * 100 > total * ctx.settings.lostHostsPercentMax;
}

async function replaceSets(
  ctx: ServiceContext,
  serviceId: string,
  host: LostHostRow,
): Promise<number> {
  const { abandoned, outcome } = await withTx(ctx.db, async (tx) => {
    const service = await lockServiceById(tx, serviceId);
    if (!service) return { abandoned: [], outcome: undefined };
    await lockHosts(tx, [host.id]);
    const setIds = await abandonLostSets(tx, serviceId, host.id);
    await insertEvents(
      tx,
      setIds.map((setId) => ({
        kind: "set-lost" as const,
        text: `lost with ${host.name}; another set takes its place`,
        tenantId: service.tenantId,
        serviceId,
        setId,
        hostId: host.id,
      })),
    );
    return { abandoned: setIds, outcome: await reconcileServiceSets(tx, service) };
  });
  if (outcome) await carryOut(ctx, outcome);
  return abandoned.length;
}
