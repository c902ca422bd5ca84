import { expect, it } from "vitest";
import { addQueryGateway, isQueryAddress, toQueryAddress } from "./query-address.ts";

it("the query address has the last 28 bits of the IPv6 address", () => {
  expect(toQueryAddress("fd00::9")).toBe("240.0.0.9");
  expect(toQueryAddress("fd00::abc1:2345")).toBe("251.193.35.69");
  expect(() => toQueryAddress("10.64.0.9")).toThrow("not an IPv6 address");
});

it("knows query addresses", () => {
  expect(["240.0.0.0", "255.255.255.255"].map(isQueryAddress)).toEqual([true, true]);
  expect(["239.255.255.255", "fd00::1", ""].map(isQueryAddress)).toEqual([false, false, false]);
});

it("adds a gateway only if the network has none of IPv4", () => {
  expect(addQueryGateway(["fd00::1"])).toEqual(["fd00::1", "240.0.0.1"]);
  for (const gateways of [[], ["10.64.0.1"], ["10.64.0.1", "fd00::1"], ["240.0.0.1", "fd00::1"]])
    expect(addQueryGateway(gateways)).toEqual(gateways);
});
