import { describe, expect, it } from "vitest";
import { checkSubnets } from "./check-subnets.ts";
import { createNetworkBody } from "./networks.ts";

/** The first fault of a request with these subnets: its pointer and its text. */
function faultOf(...subnets: object[]): [pointer: string, message: string] {
  const { error } = createNetworkBody.safeParse({ name: "web", subnets });
  const [first] = error?.issues ?? [];
  return [first?.path.join("/") ?? "", first?.message ?? ""];
}

const check = (...subnets: Parameters<typeof checkSubnets>[0]) =>
  checkSubnets(subnets, (path, message) => {
    throw new Error(`${path.join("/")}: ${message}`);
  });

describe("subnets of a request", () => {
  it("have a gateway by default, and one text for each value", () => {
    expect(
      check(
        { cidr: "10.64.0.0/16", reservations: ["10.64.1.0/30", "10.64.2.7-10.64.2.7"] },
        { cidr: "FD00:0:0:64::/64", gateway: "fd00:0:0:64:0::ff", pools: ["fd00:0:0:64::10"] },
      ),
    ).toEqual([
      {
        family: 4,
        cidr: "10.64.0.0/16",
        gateway: "10.64.0.1",
        pools: [],
        reservations: ["10.64.1.0-10.64.1.3", "10.64.2.7"],
      },
      {
        family: 6,
        cidr: "fd00:0:0:64::/64",
        gateway: "fd00:0:0:64::ff",
        pools: ["fd00:0:0:64::10"],
        reservations: [],
      },
    ]);
  });

  it.each([
    ["10.64.0.0", "expected a subnet such as"],
    ["10.64.0.0/33", "expected a subnet such as"],
    ["10.064.0.0/16", "expected a subnet such as"],
    ["0x0a000000/8", "expected a subnet such as"],
    ["10.0/16", "expected a subnet such as"],
    ["fd00::%eth0/64", "expected a subnet such as"],
    ["::ffff:10.0.0.0/120", "expected a subnet such as"],
    ["10.64.0.7/16", "has host bits set; use 10.64.0.0/16"],
    ["fd00::1/64", "has host bits set; use fd00::/64"],
    ["10.64.0.0/30", "too small; expected a prefix of at most /29"],
    ["10.64.0.0/32", "too small"],
    ["fd00::/121", "too small; expected a prefix of at most /120"],
    ["10.0.0.0/7", "too large; expected a prefix of at least /8"],
    ["fc00::/7", "too large; expected a prefix of at least /32"],
    ["0.0.0.0/8", "unspecified addresses"],
    ["127.1.0.0/16", "loopback addresses"],
    ["169.254.3.0/24", "link-local addresses"],
    ["192.0.0.0/16", "reserved addresses (192.0.0.0/24)"],
    ["198.51.100.128/25", "addresses for documentation"],
    ["224.0.0.0/24", "multicast addresses"],
    ["240.0.0.0/24", "reserved addresses"],
    ["255.255.255.0/24", "reserved addresses"],
    ["::/96", "reserved addresses"],
    ["::1:0:0/96", "reserved addresses"],
    ["fe80::/64", "link-local addresses"],
    ["ff02::/64", "multicast addresses"],
    ["2001:db8::/64", "addresses for documentation"],
  ])("refuse the range %s", (cidr, message) => {
    expect(faultOf({ cidr })).toEqual(["subnets/0/cidr", expect.stringContaining(message)]);
  });

  it.each(["10.0.0.0/8", "10.0.0.0/29", "100.64.0.0/10", "8.8.8.0/24", "2600::/32", "fd00::/120"])(
    "accept the range %s",
    (cidr) => {
      expect(check({ cidr })).toMatchObject([{ cidr }]);
    },
  );

  const cidr = "10.64.0.0/24";
  it.each([
    [{ gateway: "10.65.0.1" }, "gateway", "is outside of 10.64.0.0/24"],
    [{ gateway: "fd00::1" }, "gateway", "is outside of"],
    [{ gateway: "10.64.0.0" }, "gateway", "is the network or broadcast address of the subnet"],
    [{ gateway: "10.64.0.255" }, "gateway", "is the network or broadcast address of the subnet"],
    [{ gateway: "10.64.0.1/24" }, "gateway", "expected an address"],
    [{ pools: ["10.64.0.9-10.64.1.9"] }, "pools/0", "is outside of 10.64.0.0/24"],
    [{ pools: ["10.64.0.20-10.64.0.9"] }, "pools/0", "expected an address, a range"],
    [{ pools: ["10.64.0.7/30"] }, "pools/0", "expected an address, a range"],
    [{ pools: ["10.64.0.9-fd00::9"] }, "pools/0", "expected an address, a range"],
    [{ pools: ["10.64.0.9", "10.64.0.8/30"] }, "pools/1", "overlaps 10.64.0.9"],
    [{ pools: ["10.64.0.0-10.64.0.1"] }, "pools", "leaves no address"],
    [{ reservations: ["10.65.0.9"] }, "reservations/0", "is outside of"],
    [{ reservations: ["10.64.0.9", "10.64.0.9"] }, "reservations/1", "overlaps 10.64.0.9"],
    [{ reservations: [cidr] }, "reservations", "leaves no address"],
    [{ vlan: 7 }, "", "Unrecognized key"],
  ])("name the member of a fault: %j", (members, member, message) => {
    const pointer = member === "" ? "subnets/0" : `subnets/0/${member}`;
    expect(faultOf({ cidr, ...members })).toEqual([pointer, expect.stringContaining(message)]);
  });

  it("have at most one subnet of each family, and name an overlap", () => {
    expect(faultOf({ cidr }, { cidr: "10.64.0.128/25" })).toEqual([
      "subnets/1/cidr",
      "overlaps 10.64.0.0/24 of subnets[0]",
    ]);
    expect(faultOf({ cidr }, { cidr: "10.65.0.0/24" })).toEqual([
      "subnets/1/cidr",
      "a network has at most one IPv4 subnet, and 10.64.0.0/24 is already one",
    ]);
  });

  it("take pools of IPv6 from the first 2^32 addresses, which have different MAC addresses", () => {
    const large = "fd00::/64";
    expect(faultOf({ cidr: large, gateway: "fd00::" })).toEqual([
      "subnets/0/gateway",
      "is the subnet-router anycast address",
    ]);
    expect(faultOf({ cidr: large, pools: ["fd00::1:0:0"] })).toEqual([
      "subnets/0/pools/0",
      expect.stringContaining("fd00::-fd00::ffff:ffff"),
    ]);
    expect(check({ cidr: large, pools: ["fd00::ffff:0/112"] })).toHaveLength(1);
  });

  it("are refused without a subnet, and with more than two", () => {
    expect(faultOf()[0]).toBe("subnets");
    expect(faultOf({ cidr }, { cidr: "fd00::/64" }, { cidr: "10.9.0.0/16" })[0]).toBe("subnets");
  });
});
