import { assert } from "../../lib/assert.ts";
import { formatAddress, parseAddress, parseSubnet } from "../../lib/ip/ip-address.ts";

/**
 * The IPv4 subnet of networks that have none of their own. Docker's resolver in a container, and
 * Docker before release 28, need IPv4. No network of Berth may have these addresses, because they
 * are reserved.
 *
 * An address in it is a query address: with it, a set can only send DNS queries to the gateway. No
 * other host and no other set knows it.
 */
export const QUERY_SUBNET = "240.0.0.0/4";

const subnet = parseSubnet(QUERY_SUBNET);

/**
 * Returns the query address of a set or of a gateway with this IPv6 address. It has the last 28
 * bits of that address, so those of one network differ: Berth assigns ascending addresses.
 */
export function toQueryAddress(ipv6: string): string {
  const address = parseAddress(ipv6);
  assert(subnet && address?.family === 6, `not an IPv6 address: ${JSON.stringify(ipv6)}`);
  const mask = subnet.last - subnet.first;
  return formatAddress({ family: 4, value: subnet.first | (address.value & mask) });
}

export function isQueryAddress(address: string): boolean {
  const parsed = parseAddress(address);
  if (!subnet || parsed?.family !== 4) return false;
  return parsed.value >= subnet.first && parsed.value <= subnet.last;
}

/** Adds the gateway of queries to those of a network without an IPv4 gateway. */
export function addQueryGateway(gateways: readonly string[]): readonly string[] {
  const [gateway] = gateways;
  if (gateway === undefined || gateways.some((address) => !address.includes(":"))) return gateways;
  return [...gateways, toQueryAddress(gateway)];
}
