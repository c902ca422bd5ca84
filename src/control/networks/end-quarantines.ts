import {
  deleteQuarantinedAddresses,
  listScarcestSubnets,
  type FreeAddressCount,
} from "../../db/queries/networks/assign-addresses.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Longer than neighbor caches of Linux retain an address without traffic. */
export const QUARANTINE_SECONDS = 600;
/** Bounds the locks of a round. Sets of a locked subnet wait for their placement. */
const ADDRESSES_PER_ROUND_MAX = 5_000;
const SUBNETS_PER_ROUND_MAX = 200;
const ROUNDS_MAX = 20;
/** Bounds the series of the metric. */
const SUBNETS_LISTED_MAX = 500;

/**
 * Ends the quarantines of addresses, in bounded rounds. Afterwards other sets can get them. The
 * next run continues, also with the subnets that other transactions had locked.
 */
export async function endQuarantines(
  { db }: Pick<ControlContext, "db">,
  signal?: AbortSignal,
  { seconds = QUARANTINE_SECONDS, perRoundMax = ADDRESSES_PER_ROUND_MAX } = {},
): Promise<number> {
  let ended = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (signal?.aborted) break;
    const bounds = { addressesMax: perRoundMax, subnetsMax: SUBNETS_PER_ROUND_MAX };
    const deleted = await deleteQuarantinedAddresses(db, seconds, bounds);
    ended += deleted;
    if (deleted === 0) break;
  }
  return ended;
}

/** Lists the subnets with the fewest free addresses, at most 500. */
export function listFreeAddressCounts({
  db,
}: Pick<ControlContext, "db">): Promise<FreeAddressCount[]> {
  return listScarcestSubnets(db, SUBNETS_LISTED_MAX);
}
