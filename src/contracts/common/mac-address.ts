import { parseAddress, toBytes } from "../../lib/ip/ip-address.ts";

/** The MAC address of all service addresses, with which bridges answer requests for them. */
export const SERVICE_MAC = "0a:07:00:00:00:03";

/**
 * The MAC address of an interface with these addresses: 0a:00 and the IPv4 address, or 0a:06 and
 * the last four bytes of the IPv6 address. It is unique in a network, because Berth assigns
 * only the first 2^32 addresses of a subnet. Undefined without a valid address.
 */
export function deriveMac(addresses: readonly string[]): string | undefined {
  const parsed = addresses.flatMap((text) => parseAddress(text) ?? []);
  const address = parsed.find(({ family }) => family === 4) ?? parsed[0];
  if (!address) return undefined;
  const bytes = [0x0a, address.family === 4 ? 0 : 6];
  bytes.push(...toBytes(address.family, address.value).slice(-4));
  return bytes.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
