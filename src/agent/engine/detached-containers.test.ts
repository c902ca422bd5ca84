import { expect, it } from "vitest";
import { hasOtherNetwork } from "./detached-containers.ts";

it("a container is detached in another namespace, or if its namespace has lost its interfaces", () => {
  const infra = { id: "b:1:1", network: "net:[1]", interfaces: "lo,eth0" };
  const business = { ...infra, id: "b:2:1" };
  expect(hasOtherNetwork(business, infra)).toBe(false);
  expect(hasOtherNetwork({ ...business, network: "net:[2]" }, infra)).toBe(true);
  const unreadable = { ...business, network: undefined };
  expect(hasOtherNetwork(unreadable, infra)).toBe(false);
  expect(hasOtherNetwork({ ...unreadable, interfaces: "lo" }, infra)).toBe(true);
});
