import {
  deleteQuarantinedAddresses,
  listScarcestSubnets,
  type FreeAddressCount,
} from "../../db/queries/networks/assign-addresses.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Longer than neighbor caches of Linux retain an address without traffic. */
export const QUARANTINE_SECONDS = 600;
const ADDRESSES_PER_ROUND_MAX = 5_000;
const ROUNDS_MAX = 20;
/** Bounds the series of the metric. */
const SUBNETS_LISTED_MAX = 500;

/** Ends the quarantines of addresses, in bounded rounds. Afterwards other sets can get them. */
export async function endQuarantines(
  { db }: Pick<ControlContext, "db">,
  signal?: AbortSignal,
  seconds = QUARANTINE_SECONDS,
): Promise<number> {
  let ended = 0;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (signal?.aborted) break;
    const deleted = await deleteQuarantinedAddresses(db, seconds, ADDRESSES_PER_ROUND_MAX);
    ended += deleted;
    if (deleted < ADDRESSES_PER_ROUND_MAX) break;
  }
  return ended;
}

/** Lists the subnets with the fewest free addresses, at most 500. */
export function listFreeAddressCounts({
  db,
}: Pick<ControlContext, "db">): Promise<FreeAddressCount[]> {
  return listScarcestSubnets(db, SUBNETS_LISTED_MAX);
}
