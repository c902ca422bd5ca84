import type { NetworkAddress } from "../../contracts/api/networks.ts";
import { listNetworkAddresses as listAddressRows } from "../../db/queries/networks/addresses.ts";
import { assert } from "../../lib/assert.ts";
import { formatAddress, parseAddress, toBytes } from "../../lib/ip/ip-address.ts";
import type { ControlContext } from "../runtime/context.ts";
import { badCursor, type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";
import { getNetwork } from "./get-network.ts";

/**
 * Lists the addresses of a network that sets and services have, or had until recently. Throws
 * not-found.
 */
export async function listNetworkAddresses(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  page: PageRequest,
): Promise<Page<NetworkAddress>> {
  const after = readKey(pageStart(page));
  const network = await getNetwork(ctx, tenantId, name);
  const rows = await listAddressRows(ctx.db, network.id, after, page.limit + 1);
  return toPage(rows, page.limit, ({ address }) => toKey(address));
}

/** The bytes of the address in hexadecimal, because a cursor has no dots and colons. */
function toKey(text: string): string {
  const address = parseAddress(text);
  assert(address, "a stored address is valid");
  return Buffer.from(toBytes(address.family, address.value)).toString("hex");
}

function readKey(key: string | undefined): string | undefined {
  if (key === undefined) return undefined;
  const family = { 8: 4, 32: 6 }[key.length] as 4 | 6 | undefined;
  if (family === undefined || !/^[0-9a-f]+$/.test(key)) throw badCursor("cursor");
  return formatAddress({ family, value: BigInt(`0x${key}`) });
}
