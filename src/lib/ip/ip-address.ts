import ipaddr from "ipaddr.js";

export type IpFamily = 4 | 6;

/** An address as a number of 32 or 128 bits. */
export interface IpAddress {
  family: IpFamily;
  value: bigint;
}

/** The addresses from `first` to `last`, both included. */
export interface IpRange {
  family: IpFamily;
  first: bigint;
  last: bigint;
}

export interface IpSubnet extends IpRange {
  prefixLength: number;
  /** The text named an address inside the subnet, such as 10.0.0.7/16. */
  hasHostBits: boolean;
}

export function addressBits(family: IpFamily): number {
  return family === 4 ? 32 : 128;
}

/**
 * Parses an IPv4 address of four decimal numbers, or an IPv6 address without a zone. Returns
 * undefined for other texts, such as 010.0.0.1 and 0x7f000001, which programs read in several ways.
 */
export function parseAddress(text: string): IpAddress | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text))
    return { family: 4, value: toValue(ipaddr.IPv4.parse(text).toByteArray()) };
  if (!isPlainIpv6(text)) return undefined;
  return { family: 6, value: toValue(ipaddr.IPv6.parse(text).toByteArray()) };
}

/** The address of an interface without its prefix length, such as 10.64.0.9 of 10.64.0.9/16. */
export function stripPrefixLength(interfaceAddress: string): string {
  return interfaceAddress.replace(/\/.*$/, "");
}

/** Formats an address as RFC 5952 requires, such as 10.64.0.9 or fd00::9. */
export function formatAddress({ family, value }: IpAddress): string {
  const address = ipaddr.fromByteArray(toBytes(family, value));
  return address.kind() === "ipv6"
    ? (address as ipaddr.IPv6).toRFC5952String()
    : address.toString();
}

/** The bytes of an address, the most significant first. */
export function toBytes(family: IpFamily, value: bigint): number[] {
  const count = addressBits(family) / 8;
  return Array.from({ length: count }, (_, place) =>
    Number((value >> BigInt(8 * (count - 1 - place))) & 0xffn),
  );
}

/** Parses an address and a prefix length, such as 10.64.0.0/16. */
export function parseSubnet(text: string): IpSubnet | undefined {
  const [, addressText = "", lengthText = ""] = /^([^/]*)\/(\d{1,3})$/.exec(text) ?? [];
  const address = parseAddress(addressText);
  if (!address) return undefined;
  const bits = addressBits(address.family);
  const prefixLength = Number(lengthText);
  if (prefixLength > bits || String(prefixLength) !== lengthText) return undefined;
  const hostMask = (1n << BigInt(bits - prefixLength)) - 1n;
  const first = address.value & ~hostMask;
  return {
    family: address.family,
    first,
    last: first | hostMask,
    prefixLength,
    hasHostBits: first !== address.value,
  };
}

export function formatSubnet({
  family,
  first,
  prefixLength,
}: Pick<IpSubnet, "family" | "first" | "prefixLength">): string {
  return `${formatAddress({ family, value: first })}/${prefixLength}`;
}

/** Parses an address, a range such as 10.64.0.9-10.64.0.20, or a subnet without host bits. */
export function parseRange(text: string): IpRange | undefined {
  if (text.includes("/")) {
    const subnet = parseSubnet(text);
    if (!subnet || subnet.hasHostBits) return undefined;
    return { family: subnet.family, first: subnet.first, last: subnet.last };
  }
  const [firstText = "", lastText = firstText, ...others] = text.split("-");
  const first = parseAddress(firstText);
  const last = parseAddress(lastText);
  if (!first || last?.family !== first.family || others.length > 0) return undefined;
  if (first.value > last.value) return undefined;
  return { family: first.family, first: first.value, last: last.value };
}

/** Formats a range as `parseRange` reads it: one address, or two with a hyphen. */
export function formatRange({ family, first, last }: IpRange): string {
  const from = formatAddress({ family, value: first });
  return first === last ? from : `${from}-${formatAddress({ family, value: last })}`;
}

export function overlaps(a: IpRange, b: IpRange): boolean {
  return a.family === b.family && a.first <= b.last && b.first <= a.last;
}

export function contains(outer: IpRange, inner: IpRange): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;
}

/** The library also parses IPv6 addresses with a zone or with IPv4 parts in any notation. */
function isPlainIpv6(text: string): boolean {
  return /^[0-9A-Fa-f:]+$/.test(text) && ipaddr.IPv6.isValid(text);
}

function toValue(bytes: readonly number[]): bigint {
  return bytes.reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
}
