import { insertEvents } from "../db/queries/events.ts";
import { listSetsToDrain } from "../db/queries/host-lifecycle.ts";
import { findSet, lockHosts, updatePlacedSet } from "../db/queries/set-writes.ts";
import { withTx } from "../db/tx.ts";
import type { ServiceContext } from "./context.ts";

const SETS_PER_ROUND_MAX = 200;

/** Takes the next sets off hosts that are being drained. Run when a drain begins and by the sweep; gives how many. */
export async function drainHosts(ctx: ServiceContext): Promise<number> {
  const next = await listSetsToDrain(ctx.db, SETS_PER_ROUND_MAX);
  let moved = 0;
  for (const { id, hostId } of next) {
    const serviceId = await withTx(ctx.db, async (tx) => {
      await lockHosts(tx, [hostId]);
      const set = await findSet(tx, id, null);
      if (!set || set.leaving || set.hostId !== hostId) return undefined;
      const changed = await updatePlacedSet(tx, id, hostId, { leaving: true });
      if (!changed) return undefined;
      await insertEvents(tx, [
        {
          kind: "set-moved",
          text: "it leaves a host that is being drained",
          tenantId: set.tenantId,
          serviceId: set.serviceId,
          setId: id,
          hostId,
          generation: changed.generation,
        },
      ]);
      return set.serviceId;
    });
    if (serviceId === undefined) continue;
    moved++;
    await ctx.signals.publish([`host:${hostId}`, `set:${id}`, `service:${serviceId}`]);
  }
  return moved;
}
