import type { CheckedSubnet } from "../../contracts/api/check-subnets.ts";
import {
  countOffsets,
  listUsableRanges,
  readSubnet,
} from "../../contracts/common/subnet-addresses.ts";
import type { NewSubnet } from "../../db/queries/networks/networks.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import { type IpRange, parseAddress, parseRange } from "../../lib/ip/ip-address.ts";

/** A valid subnet with the addresses that Berth may assign, for the database. */
export function toNewSubnet(subnet: CheckedSubnet): NewSubnet {
  const gateway = parseAddress(subnet.gateway)?.value;
  assert(gateway !== undefined, "a checked gateway is an address");
  const ranges = listUsableRanges(readSubnet(subnet.cidr), {
    gateway,
    pools: subnet.pools.map(readRange),
    reservations: subnet.reservations.map(readRange),
  });
  return { ...subnet, id: newId("sub"), ranges, usable: countOffsets(ranges) };
}

function readRange(text: string): IpRange {
  const range = parseRange(text);
  assert(range, "a checked range is valid");
  return range;
}
