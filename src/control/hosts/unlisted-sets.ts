import { readUnlistedSets, storeUnknownSets } from "../../db/queries/hosts/unknown-sets.ts";
import { noteUnknownAddresses } from "../../db/queries/networks/unknown-addresses.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/**
 * Decides about sets that an agent has and that its full answers do not list. Returns those that
 * the agent removes: Berth has deleted them, or replaced them on another host.
 *
 * The others were lost, or have moved, in changes that a restore or a failover lost. Their agent
 * manages them until an operator orders their deletion (I17). They are stored, and an event reports
 * them. The next sync requests the addresses of new ones.
 */
export async function resolveUnlistedSets(
  ctx: ControlContext,
  hostId: string,
  setIds: readonly string[],
): Promise<string[]> {
  const { sets, stored } = await readUnlistedSets(ctx.db, hostId, setIds);
  const unknown = sets.flatMap(({ setId, isUnknown }) => (isUnknown ? setId : []));
  if (unknown.toSorted().join() !== stored.toSorted().join()) {
    await unitOfWork(ctx, async (tx) => {
      const count = await storeUnknownSets(tx, hostId, unknown);
      if (count === 0) return;
      tx.emit({ kind: "host-unknown-sets", data: { sets: count }, hostId });
      await noteUnknownAddresses(tx, hostId);
    });
  }
  return sets.flatMap(({ setId, isDeleted }) => (isDeleted ? setId : []));
}
