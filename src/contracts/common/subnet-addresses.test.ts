import fc from "fast-check";
import { expect, it } from "vitest";
import { type IpRange, parseAddress, parseRange } from "../../lib/ip/ip-address.ts";
import {
  countOffsets,
  hasOffset,
  listUsableRanges,
  OFFSETS_PER_SUBNET_MAX,
  readSubnet,
} from "./subnet-addresses.ts";

const value = (text: string) => parseAddress(text)?.value ?? 0n;
const range = (text: string) => parseRange(text) as IpRange;

it("excludes the network, the broadcast address, the gateway and reservations", () => {
  const ranges = listUsableRanges(readSubnet("10.0.0.0/28"), {
    gateway: value("10.0.0.1"),
    pools: [],
    reservations: [range("10.0.0.4-10.0.0.5"), range("10.0.0.9")],
  });
  expect(ranges).toEqual([
    [2, 3],
    [6, 8],
    [10, 14],
  ]);
});

it("takes from pools only, in order and joined", () => {
  const ranges = listUsableRanges(readSubnet("10.0.0.0/24"), {
    gateway: value("10.0.0.254"),
    pools: [range("10.0.0.128/25"), range("10.0.0.10-10.0.0.19"), range("10.0.0.20/30")],
    reservations: [range("10.0.0.0/28")],
  });
  expect(ranges).toEqual([
    [16, 23],
    [128, 253],
  ]);
});

it("excludes the anycast address of an IPv6 subnet, and offsets from 2^32", () => {
  const free = { gateway: value("fd00::1"), pools: [], reservations: [] };
  expect(listUsableRanges(readSubnet("fd00::/120"), free)).toEqual([[2, 255]]);
  expect(listUsableRanges(readSubnet("fd00::/64"), free)).toEqual([
    [2, OFFSETS_PER_SUBNET_MAX - 1],
  ]);
  const far = {
    ...free,
    reservations: [range("fd00::1:0:0:0-fd00::ffff:0:0:0"), range("fd00::9")],
  };
  expect(listUsableRanges(readSubnet("fd00::/64"), far)).toEqual([
    [2, 8],
    [10, OFFSETS_PER_SUBNET_MAX - 1],
  ]);
});

it("has exactly the addresses of the pools that nothing excludes (property)", () => {
  const subnet = readSubnet("10.0.0.0/26");
  const offsets = fc.tuple(fc.integer({ min: 0, max: 63 }), fc.integer({ min: 0, max: 63 }));
  const toRange = ([a, b]: readonly [number, number]): IpRange => ({
    family: 4,
    first: subnet.first + BigInt(Math.min(a, b)),
    last: subnet.first + BigInt(Math.max(a, b)),
  });
  const isIn = (ranges: readonly IpRange[], offset: number) =>
    ranges.some(({ first, last }) => {
      const address = subnet.first + BigInt(offset);
      return first <= address && address <= last;
    });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 62 }),
      fc.array(offsets, { maxLength: 6 }),
      fc.array(offsets, { maxLength: 6 }),
      (gateway, pools, reservations) => {
        const [included, excluded] = [pools.map(toRange), reservations.map(toRange)];
        const ranges = listUsableRanges(subnet, {
          gateway: subnet.first + BigInt(gateway),
          pools: included,
          reservations: excluded,
        });
        const expected = Array.from({ length: 64 }, (_, offset) => offset).filter(
          (offset) =>
            offset !== 0 &&
            offset !== 63 &&
            offset !== gateway &&
            (included.length === 0 || isIn(included, offset)) &&
            !isIn(excluded, offset),
        );
        const found = Array.from({ length: 64 }, (_, offset) => offset).filter((offset) =>
          hasOffset(ranges, offset),
        );
        expect(found).toEqual(expected);
        expect(countOffsets(ranges)).toBe(expected.length);
      },
    ),
  );
});
