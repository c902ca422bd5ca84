import { expect, it } from "vitest";
import { deriveMac } from "./mac-address.ts";

it.each([
  [["10.64.0.9"], "0a:00:0a:40:00:09"],
  [["fd00::9", "10.64.0.9"], "0a:00:0a:40:00:09"],
  [["fd00::1:2:9", "10.64.0.9"], "0a:00:0a:40:00:09"],
  [["fd00::abcd:9"], "0a:06:ab:cd:00:09"],
  [["fd00::1:2:9"], "0a:06:00:02:00:09"],
  [["255.255.255.254"], "0a:00:ff:ff:ff:fe"],
  [[], undefined],
])("the MAC address of %j is %s", (addresses, mac) => {
  expect(deriveMac(addresses)).toBe(mac);
});
