import fc from "fast-check";
import { expect, it } from "vitest";
import { type AddressNeed, assignAddresses } from "./assign-addresses.ts";

const v4 = { id: "sub_4", family: 4, cidr: "10.0.0.0/24" } as const;
const v6 = { id: "sub_6", family: 6, cidr: "fd00::/64" } as const;
const supplyOf = ({ id, family }: { id: string; family: 4 | 6 }) => ({
  id,
  family,
  free: 9,
  address: null,
});
const dual = { networkId: "net_1", subnets: [supplyOf(v4), supplyOf(v6)] };
const single = { networkId: "net_2", subnets: [supplyOf(v4)] };
const need = (
  setId: string,
  ...templateNetworks: AddressNeed["templateNetworks"]
): AddressNeed => ({
  setId,
  hostId: "host_1",
  templateNetworks,
});

it("gives a set an address of each subnet, and one MAC address for each interface", () => {
  const other = { id: "sub_x", family: 4, cidr: "10.9.0.0/24" } as const;
  const { chosen, cursors } = assignAddresses(
    [need("set_1", dual, { networkId: "net_3", subnets: [supplyOf(other)] })],
    {
      subnets: [v4, v6, other],
      free: [
        { subnetId: "sub_4", offsets: [7] },
        { subnetId: "sub_6", offsets: [8] },
        { subnetId: "sub_x", offsets: [9] },
      ],
      previous: [],
      statics: [],
    },
  );
  expect(chosen).toMatchObject([
    { networkIndex: 0, address: "10.0.0.7", mac: "0a:00:0a:00:00:07", isReused: false },
    { networkIndex: 0, address: "fd00::8", mac: "0a:00:0a:00:00:07" },
    { networkIndex: 1, address: "10.9.0.9", mac: "0a:00:0a:09:00:09" },
  ]);
  expect(cursors).toEqual([
    { subnetId: "sub_4", lastOffset: 7 },
    { subnetId: "sub_6", lastOffset: 8 },
    { subnetId: "sub_x", lastOffset: 9 },
  ]);
});

it("gives a set the address that it had last, and leaves the position of the subnet", () => {
  const supply = {
    subnets: [v4],
    free: [{ subnetId: "sub_4", offsets: [2, 3] }],
    previous: [{ setId: "set_1", subnetId: "sub_4", address: "10.0.0.200" }],
    statics: [],
  };
  expect(assignAddresses([need("set_1", single)], supply)).toMatchObject({
    chosen: [{ address: "10.0.0.200", isReused: true }],
    cursors: [],
  });
  expect(assignAddresses([need("set_2", single)], supply).chosen).toMatchObject([
    { address: "10.0.0.2", isReused: false },
  ]);
});

it("gives nothing of a network that the tenant lacks or that was deleted", () => {
  const supply = {
    subnets: [],
    free: [{ subnetId: "sub_4", offsets: [2] }],
    previous: [],
    statics: [],
  };
  expect(assignAddresses([need("set_1", single)], supply).chosen).toEqual([]);
  const lacking = { networkId: null, subnets: [] };
  expect(assignAddresses([need("set_1", single, lacking)], { ...supply, subnets: [v4] })).toEqual({
    chosen: [],
    cursors: [],
  });
});

it("gives a set its static address only, and no other set gets it", () => {
  const statically = (address: string) => ({
    networkId: "net_1",
    subnets: [{ ...supplyOf(v4), address }, supplyOf(v6)],
  });
  const supply = {
    subnets: [v4, v6],
    free: [
      { subnetId: "sub_4", offsets: [2, 3, 4] },
      { subnetId: "sub_6", offsets: [2, 3, 4] },
    ],
    previous: [{ setId: "set_4", subnetId: "sub_4", address: "10.0.0.9" }],
    statics: [
      { setId: "set_2", subnetId: "sub_4", address: "10.0.0.2", isReused: false },
      { setId: "set_3", subnetId: "sub_4", address: "10.0.0.2", isReused: false },
    ],
  };
  const { chosen, cursors } = assignAddresses(
    [
      need("set_1", single),
      need("set_2", statically("10.0.0.2")),
      need("set_3", statically("10.0.0.2")),
      need("set_4", statically("10.0.0.5")),
    ],
    supply,
  );
  expect(chosen.map(({ setId, address, mac }) => [setId, address, mac])).toEqual([
    ["set_1", "10.0.0.3", "0a:00:0a:00:00:03"],
    ["set_2", "10.0.0.2", "0a:00:0a:00:00:02"],
    ["set_2", "fd00::2", "0a:00:0a:00:00:02"],
  ]);
  expect(cursors).toEqual([
    { subnetId: "sub_4", lastOffset: 3 },
    { subnetId: "sub_6", lastOffset: 2 },
  ]);
});

it("gives no address twice, all or none to a set, and as many sets as the scarcest subnet serves", () => {
  const offsets = fc.uniqueArray(fc.integer({ min: 2, max: 254 }), { maxLength: 12 });
  fc.assert(
    fc.property(
      offsets,
      offsets,
      fc.array(fc.constantFrom(dual, single), { maxLength: 20 }),
      (free4, free6, kinds) => {
        const needs = kinds.map((kind, index) => need(`set_${index}`, kind));
        const { chosen, cursors } = assignAddresses(needs, {
          subnets: [v4, v6],
          free: [
            { subnetId: "sub_4", offsets: free4 },
            { subnetId: "sub_6", offsets: free6 },
          ],
          previous: [],
          statics: [],
        });
        const used = chosen.map(({ subnetId, address }) => `${subnetId} ${address}`);
        expect(new Set(used).size).toBe(used.length);
        const macs = new Map(chosen.map(({ setId, mac }) => [setId, mac]));
        expect(new Set(macs.values()).size).toBe(macs.size);
        let [left4, left6] = [free4.length, free6.length];
        for (const [index, kind] of kinds.entries()) {
          const isDual = kind === dual;
          const isServed = left4 > 0 && (!isDual || left6 > 0);
          const got = chosen.filter(({ setId }) => setId === `set_${index}`);
          expect(got).toHaveLength(isServed ? kind.subnets.length : 0);
          if (isServed) left4--;
          if (isServed && isDual) left6--;
        }
        for (const { subnetId, lastOffset } of cursors) {
          const free = subnetId === "sub_4" ? free4 : free6;
          const taken = chosen.filter((each) => each.subnetId === subnetId).length;
          expect(lastOffset).toBe(free[taken - 1]);
        }
      },
    ),
  );
});
