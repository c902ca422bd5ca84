import fc from "fast-check";
import { expect, it } from "vitest";
import { newId } from "../../lib/ids.ts";
import type { Endpoint } from "./driver-records.ts";
import { readExternalIds, toExternalIds } from "./external-ids.ts";
import { createLinkNames } from "./link-names.ts";

const endpointId = "e".repeat(64);
const endpoint: Endpoint = {
  dockerNetworkId: "d".repeat(64),
  networkId: newId("net"),
  vni: 4097,
  mtu: 1450,
  gateways: ["10.64.0.1", "fd00::1"],
  mac: "0a:00:0a:40:00:09",
  addresses: ["10.64.0.9/16", "fd00::9/64"],
  set: newId("set"),
  tenant: newId("ten"),
  host: newId("host"),
  publishedPorts: [
    { protocol: "tcp", hostPort: 20_001, port: 80 },
    { protocol: "udp", hostPort: 53, port: 5_353 },
  ],
  defaultRoutes: [4],
};

it("external ids contain the whole record of an endpoint", () => {
  const { set: _set, tenant: _tenant, host: _host, ...others } = endpoint;
  const { publishedPorts: _ports, defaultRoutes: _all, ...required } = others;
  const written = [
    { ...required, gateways: [] },
    { ...required, defaultRoutes: [] },
  ];
  for (const record of [endpoint, ...written])
    expect(readExternalIds(toExternalIds(endpointId, record))).toEqual({
      endpointId,
      endpoint: record,
    });
});

it("external ids with anything missing or changed are never read as a record", () => {
  const ids = toExternalIds(endpointId, endpoint);
  const optional = /set|tenant|host|gateways|ports|routes/;
  const required = Object.keys(ids).filter((key) => !optional.test(key));
  for (const key of required) {
    const { [key]: _removed, ...others } = ids;
    expect(readExternalIds(others), key).toBeUndefined();
  }
  fc.assert(
    fc.property(fc.constantFrom(...required), fc.string({ maxLength: 20 }), (key, text) => {
      const read = readExternalIds({ ...ids, [key]: text });
      // A changed record is at least a valid one, and never a mixture with the old value.
      if (read) expect(toExternalIds(read.endpointId, read.endpoint)[key]).toBe(text);
    }),
  );
});

it("published ports with an invalid part are never read", () => {
  const ids = toExternalIds(endpointId, endpoint);
  for (const text of ["tcp/80", "tcp/80=0", "tcp/70000=80", "icmp/1=1", "tcp/80=80,", "tcp/80=8x"])
    expect(readExternalIds({ ...ids, "berth-ports": text }), text).toBeUndefined();
});

it("names of interfaces have at most 15 characters and belong to one prefix", () => {
  for (const prefix of ["b", "tx", "t9a"]) {
    const names = createLinkNames(prefix);
    const { hostEnd, containerEnd } = names.nameEnds("0123456789abcdef");
    expect(hostEnd).toHaveLength(15);
    expect(containerEnd).toHaveLength(15);
    expect(names.isHostEnd(hostEnd)).toBe(true);
    expect(names.isHostEnd(containerEnd)).toBe(false);
    expect(createLinkNames("z").isHostEnd(hostEnd)).toBe(false);
  }
});
