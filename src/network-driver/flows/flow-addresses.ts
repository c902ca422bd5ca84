import { assert } from "../../lib/assert.ts";

const ipv4Pattern = /^\d{1,3}(?:\.\d{1,3}){3}$/;
const ipv6Pattern = /^[\da-f]*:[\da-f:.]*$/;
const macPattern = /^[\da-f]{2}(?::[\da-f]{2}){5}$/;

/**
 * Returns the family of a single address in canonical form (RFC 5952). Fails for anything else,
 * above all for a range: in a flow, `10.64.0.9/16` would match every sender of the subnet.
 */
export function familyOf(address: string): 4 | 6 {
  if (ipv4Pattern.test(address)) return 4;
  assert(ipv6Pattern.test(address), `not a canonical address: ${JSON.stringify(address)}`);
  return 6;
}

/** Fails unless `mac` is the address of one interface, in lower case. */
export function checkMac(mac: string): string {
  const isUnicast = macPattern.test(mac) && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0;
  assert(isUnicast, `not a unicast MAC address: ${JSON.stringify(mac)}`);
  return mac;
}

/** The link-local address that Linux gives an interface with this MAC address (EUI-64). */
export function linkLocalOf(mac: string): string {
  const bytes = checkMac(mac)
    .split(":")
    .map((byte) => Number.parseInt(byte, 16));
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = bytes;
  const groups = [((a ^ 2) << 8) | b, (c << 8) | 0xff, 0xfe00 | d, (e << 8) | f];
  return `fe80::${groups.map((group) => group.toString(16)).join(":")}`;
}

/** Matches a request for the neighbor with `address`. */
export function requestFor(address: string): string {
  return familyOf(address) === 4
    ? `arp,arp_op=1,arp_tpa=${address}`
    : `icmp6,icmpv6_type=135,icmpv6_code=0,nd_target=${address}`;
}

/**
 * All addresses that a port may use. The kernel gives a link-local address to each interface with
 * an IPv6 address.
 */
export function listPortAddresses(mac: string, addresses: readonly string[]): string[] {
  const hasIpv6 = addresses.some((address) => familyOf(address) === 6);
  return [...new Set(hasIpv6 ? [...addresses, linkLocalOf(mac)] : addresses)];
}
