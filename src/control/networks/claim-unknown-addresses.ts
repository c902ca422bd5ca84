import type { SetAddresses } from "../../contracts/agent-protocol/host-addresses.ts";
import { addUnknownSets } from "../../db/queries/hosts/unknown-sets.ts";
import {
  type AddressConflict,
  claimUnknownAddresses,
  endAddressRequest,
  listClaimableAddresses,
  lockSubnetsOfNetworks,
} from "../../db/queries/networks/unknown-addresses.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, SignalChannel } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

/** An event names at most this many conflicts. */
const CONFLICTS_NAMED_MAX = 10;

/**
 * Stores the addresses that sets of a host have, and that the database lacks because it was
 * restored (I18). From then on, no other set gets them, and other hosts reach these sets.
 *
 * It ignores a report that Berth has not requested, so that no agent claims addresses at will.
 */
export async function storeHostAddresses(
  ctx: ControlContext,
  hostId: string,
  reported: readonly SetAddresses[],
): Promise<void> {
  const conflicts = await unitOfWork(ctx, async (tx): Promise<AddressConflict[]> => {
    await lockHosts(tx, [hostId]);
    const request = await endAddressRequest(tx, hostId);
    if (!request) return [];
    const { isRestored } = request;
    const unknown = await listClaimableAddresses(tx, { hostId, isRestored }, reported);
    if (unknown.length === 0) return [];
    const networkIds = [...new Set(unknown.map(({ networkId }) => networkId))];
    await lockSubnetsOfNetworks(tx, networkIds);
    const setIds = [...new Set(unknown.map(({ setId }) => setId))];
    const sets = await addUnknownSets(tx, hostId, setIds);
    if (sets > 0) tx.emit({ kind: "host-unknown-sets", data: { sets }, hostId });
    const found = await claimUnknownAddresses(tx, hostId, unknown, CONFLICTS_NAMED_MAX);
    const channels = networkIds.map((id): SignalChannel => `network:${id}`);
    tx.signal(`host:${hostId}`, ...channels);
    if (found.length > 0) {
      const addresses = found.map(({ address }) => address);
      tx.emit({ kind: "host-addresses-conflicting", data: { addresses }, hostId });
    }
    return found;
  });
  for (const conflict of conflicts)
    ctx.log.error({ hostId, ...conflict }, "a set that the database lacks has an assigned address");
}
