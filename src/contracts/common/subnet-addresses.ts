import { type IpRange, type IpSubnet, parseSubnet } from "../../lib/ip/ip-address.ts";
import { assert } from "../../lib/assert.ts";

/**
 * Berth assigns only the first 2^32 addresses of a subnet. So offsets are exact numbers, and the
 * last four bytes of an IPv6 address, of which its MAC address consists, are unique in a subnet.
 */
export const OFFSETS_PER_SUBNET_MAX = 2 ** 32;

/** Offsets of addresses from the start of their subnet, both included. */
export type OffsetRange = readonly [first: number, last: number];

/**
 * The offsets of the addresses that Berth may assign, in ascending order: those of the pools
 * without reservations and unusable addresses. No pools means the whole subnet.
 */
export function listUsableRanges(
  subnet: IpSubnet,
  {
    gateway,
    pools,
    reservations,
  }: { gateway: bigint; pools: readonly IpRange[]; reservations: readonly IpRange[] },
): OffsetRange[] {
  const excluded = [
    ...listUnusable(subnet),
    { family: subnet.family, first: gateway, last: gateway },
    ...reservations,
  ].map((range) => toOffsets(subnet, range));
  const whole: IpRange = { family: subnet.family, first: subnet.first, last: subnet.last };
  const included = (pools.length === 0 ? [whole] : pools).map((range) => toOffsets(subnet, range));
  return subtract(merge(included), merge(excluded)).flatMap(([first, last]): OffsetRange[] =>
    first >= OFFSETS_PER_SUBNET_MAX ? [] : [[first, Math.min(last, OFFSETS_PER_SUBNET_MAX - 1)]],
  );
}

/**
 * The addresses of a subnet that no host can have. For IPv4 these are the network address and the
 * broadcast address. For IPv6 it is the anycast address of the subnet's routers (RFC 4291).
 */
export function listUnusable({ family, first, last }: IpRange): IpRange[] {
  const start = { family, first, last: first };
  return family === 4 ? [start, { family, first: last, last }] : [start];
}

export function countOffsets(ranges: readonly OffsetRange[]): number {
  return ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

/** Whether the offset is in one of the ranges. */
export function hasOffset(ranges: readonly OffsetRange[], offset: number): boolean {
  return ranges.some(([first, last]) => first <= offset && offset <= last);
}

/** Whether Berth may assign the address, which is in the subnet, to a set. */
export function isAssignable(
  { cidr, ranges }: { cidr: string; ranges: readonly OffsetRange[] },
  address: bigint,
): boolean {
  const distance = address - readSubnet(cidr).first;
  return distance < OFFSETS_PER_SUBNET_MAX && hasOffset(ranges, Number(distance));
}

/** Parses the stored text of a subnet. */
export function readSubnet(cidr: string): IpSubnet {
  const subnet = parseSubnet(cidr);
  assert(subnet && !subnet.hasHostBits, "a stored subnet is valid");
  return subnet;
}

/** The caller has checked that the range is in the subnet. Berth uses no larger offsets. */
function toOffsets(subnet: IpSubnet, { first, last }: IpRange): OffsetRange {
  return [toOffset(first - subnet.first), toOffset(last - subnet.first)];
}

function toOffset(distance: bigint): number {
  return Math.min(Number(distance), OFFSETS_PER_SUBNET_MAX);
}

/** Joins ranges that overlap or touch. */
function merge(ranges: readonly OffsetRange[]): OffsetRange[] {
  const merged: [number, number][] = [];
  for (const [first, last] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const before = merged.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}

/** Both lists are merged. */
function subtract(from: readonly OffsetRange[], excluded: readonly OffsetRange[]): OffsetRange[] {
  const rest: OffsetRange[] = [];
  for (const [first, last] of from) {
    let start = first;
    for (const [gapFirst, gapLast] of excluded) {
      if (gapLast < start || gapFirst > last) continue;
      if (gapFirst > start) rest.push([start, gapFirst - 1]);
      start = gapLast + 1;
    }
    if (start <= last) rest.push([start, last]);
  }
  return rest;
}
