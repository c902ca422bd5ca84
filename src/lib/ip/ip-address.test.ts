import fc from "fast-check";
import { expect, it } from "vitest";
import {
  addressBits,
  formatAddress,
  formatRange,
  formatSubnet,
  type IpFamily,
  parseAddress,
  parseRange,
  parseSubnet,
  toBytes,
} from "./ip-address.ts";

const address = fc
  .constantFrom<IpFamily>(4, 6)
  .chain((family) =>
    fc
      .bigInt({ min: 0n, max: (1n << BigInt(addressBits(family))) - 1n })
      .map((value) => ({ family, value })),
  )
  // The text of an IPv4-mapped address has two notations in one, which Berth refuses.
  .filter(({ family, value }) => family === 4 || value >> 32n !== 0xffffn);

it("parses each address that it formats", () => {
  fc.assert(
    fc.property(address, (some) => {
      expect(parseAddress(formatAddress(some))).toEqual(some);
    }),
  );
});

it("parses each range and each subnet that it formats", () => {
  fc.assert(
    fc.property(address, fc.nat(), fc.nat(128), ({ family, value }, size, length) => {
      const last = value + BigInt(size);
      fc.pre(last < 1n << BigInt(addressBits(family)));
      const range = { family, first: value, last };
      expect(parseRange(formatRange(range))).toEqual(range);
      fc.pre(length <= addressBits(family));
      const subnet = parseSubnet(`${formatAddress({ family, value })}/${length}`);
      expect(subnet && parseSubnet(formatSubnet(subnet))).toEqual({
        ...subnet,
        hasHostBits: false,
      });
    }),
  );
});

it.each([
  "",
  "10.0.0",
  "10.0.0.256",
  "10.0.0.01",
  "0x0a.0.0.1",
  "167772161",
  "fe80::1%eth0",
  "::ffff:10.0.0.1",
  "1::2::3",
  "10.0.0.1 ",
])("refuses %j, which programs read in several ways or not at all", (text) => {
  expect(parseAddress(text)).toBeUndefined();
});

it("splits an address into bytes", () => {
  expect(toBytes(4, parseAddress("10.64.0.9")?.value ?? 0n)).toEqual([10, 64, 0, 9]);
  expect(toBytes(6, 258n).slice(-3)).toEqual([0, 1, 2]);
});
