import { LEASE_SECONDS } from "../../contracts/agent-protocol/protocol.ts";
import {
  abandonSets,
  countPoolHosts,
  holdSetsWithVolumeData,
  insertReplacementHeld,
  listHostsToReplace,
  listServicesToReplace,
  markExpiredHostsLost,
  type OutGrace,
  type OutHostRow,
  restartOutClockWithoutWitness,
} from "../../db/queries/hosts/lost-hosts.ts";
import { lockServiceById } from "../../db/queries/services/write-services.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

const HOSTS_PER_ROUND_MAX = 1_000;
const SERVICES_PER_HOST_MAX = 5_000;
const HELD_SETS_PER_ROUND_MAX = 1_000;

export interface LostHostsOutcome {
  lost: number;
  replacedSets: number;
  /** Hosts whose sets were left alone because too many are out at once. */
  held: number;
}

/**
 * Finds hosts whose lease ran out and, after a grace time, has the sets of services that want it replaced elsewhere. A host
 * whose agent is heard but whose Docker does not answer is as bad: nobody knows what runs there. It has as long as one whose agent
 * went at the same moment.
 *
 * What holds it back (I12): no other host was ready during the grace time, so that Berth itself may have been away; or more than a share of the
 * pool is out at once, which is a network that is cut, or a daemon that was upgraded badly, rather than so many machines that broke.
 */
export async function replaceLostHosts(ctx: ControlContext): Promise<LostHostsOutcome> {
  const lost = await markLost(ctx);
  if (await restartOutClockWithoutWitness(ctx.db)) return { lost, replacedSets: 0, held: 0 };
  const outcome: LostHostsOutcome = { lost, replacedSets: 0, held: 0 };
  await holdSets(ctx);
  for (const host of await listHostsToReplace(ctx.db, graceOf(ctx), HOSTS_PER_ROUND_MAX)) {
    const { total, out } = await countPoolHosts(ctx.db, host.pool);
    if (out > 1 && out * 100 > total * ctx.settings.lostHostsPercentMax) {
      outcome.held++;
      const text = `the sets of ${host.name} are not replaced: ${out} of the ${total} hosts of pool ${host.pool} are out at once`;
      if (await insertReplacementHeld(ctx.db, host.id, text)) await ctx.signals.publish(["events"]);
      continue;
    }
    for (const serviceId of await listServicesToReplace(ctx.db, host.id, SERVICES_PER_HOST_MAX)) {
      outcome.replacedSets += await replaceSets(ctx, serviceId, host);
    }
  }
  if (outcome.held > 0)
    ctx.log.warn({ heldHosts: outcome.held }, "replacement held: too many hosts out at once");
  return outcome;
}

async function markLost(ctx: ControlContext): Promise<number> {
  return unitOfWork(ctx, async (tx) => {
    const marked = await markExpiredHostsLost(tx, HOSTS_PER_ROUND_MAX);
    tx.emit(
      ...marked.map((host) => ({
        kind: "host-lost" as const,
        text: `${host.name} is lost: its lease ran out`,
        hostId: host.id,
      })),
    );
    return marked.length;
  });
}

/** Records once a set and outage that it waits for its host because of its volume. */
async function holdSets(ctx: ControlContext): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const held = await holdSetsWithVolumeData(tx, graceOf(ctx), HELD_SETS_PER_ROUND_MAX);
    tx.emit(...held.map((set) => ({ kind: "set-held" as const, ...set })));
    tx.signal(...held.map(({ setId }) => `set:${setId}` as const));
  });
}

function graceOf({ settings }: ControlContext): OutGrace {
  const lostMs = settings.hostLostGraceMs;
  return { lostMs, unhealthyMs: lostMs + LEASE_SECONDS * 1_000 };
}

async function replaceSets(
  ctx: ControlContext,
  serviceId: string,
  host: OutHostRow,
): Promise<number> {
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceById(tx, serviceId);
    if (!service) return 0;
    await lockHosts(tx, [host.id]);
    const setIds = await abandonSets(tx, serviceId, host.id, graceOf(ctx));
    tx.emit(
      ...setIds.map((setId) => ({
        kind: "set-lost" as const,
        text: `${howLost(host)}; another set takes its place`,
        tenantId: service.tenantId,
        serviceId,
        setId,
        hostId: host.id,
      })),
    );
    await reconcileServiceSets(tx, service);
    // An agent that still syncs gets the order to remove them, and does so once Docker responds.
    if (setIds.length > 0) tx.signal(`host:${host.id}`);
    return setIds.length;
  });
}

function howLost({ state, name }: OutHostRow): string {
  return state === "lost" ? `lost with ${name}` : `lost, as the Docker daemon of ${name} is away`;
}
