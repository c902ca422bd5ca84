import type { Host } from "../../contracts/api/hosts.ts";
import { orderUnknownSetsDeleted } from "../../db/queries/hosts/unknown-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getHost } from "./get-host.ts";

/**
 * Orders the deletion of the sets on a host that the database does not know. Their volumes go to
 * the trash of the host. The agent removes the sets with its next full sync, within a minute. Sets
 * that it reports later stay. Throws not-found.
 */
export async function deleteUnknownSets(ctx: ControlContext, hostId: string): Promise<Host> {
  const host = await getHost(ctx, hostId);
  await unitOfWork(ctx, async (tx) => {
    const sets = await orderUnknownSetsDeleted(tx, hostId);
    if (sets > 0) tx.emit({ kind: "host-unknown-sets-deleted", data: { sets }, hostId });
  });
  return host;
}
