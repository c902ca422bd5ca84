import { expect, it } from "vitest";
import { newId } from "../../lib/ids.ts";
import { coalesce } from "../../lib/async/coalesce.ts";
import type { DriverRecordsContent, Endpoint } from "../model/driver-records.ts";
import { createLinkNames } from "../model/link-names.ts";
import type { StateStore } from "../ports/state-store.ts";
import { EndpointRecords } from "./endpoint-records.ts";

/** A store whose writes fail on demand, as on a full disk. */
function createStore() {
  const store = { saved: undefined as DriverRecordsContent | undefined, isFull: false };
  let read: () => DriverRecordsContent;
  const write = coalesce(async () => {
    await Promise.resolve();
    if (store.isFull) throw new Error("no space left on device");
    store.saved = structuredClone(read());
  });
  const port: StateStore<DriverRecordsContent> = {
    load: async () => ({ kind: "missing" }),
    save: async (next) => {
      read = next;
      await write();
    },
  };
  return { store, port };
}

const nothing = { networks: {}, endpoints: {}, zones: {} };
const options = { names: createLinkNames("b"), nowMs: () => 0 };
const idOf = (name: string) => name.padEnd(64, "0");

function endpointOf(address: string, changes: Partial<Endpoint> = {}): Endpoint {
  return {
    dockerNetworkId: idOf("net"),
    networkId: newId("net"),
    vni: 4097,
    mtu: 1450,
    gateways: [],
    mac: `0a:00:00:00:00:${address.slice(-2).padStart(2, "0")}`,
    addresses: [`10.64.0.${address}/16`],
    ...changes,
  };
}

it("a full disk refuses new records and stores none of them later", async () => {
  const { store, port } = createStore();
  const records = new EndpointRecords(port, nothing, options);
  await records.putEndpoint(idOf("a"), endpointOf("10"));
  store.isFull = true;
  await expect(records.putEndpoint(idOf("b"), endpointOf("11"))).rejects.toThrow("no space left");
  store.isFull = false;
  await records.putEndpoint(idOf("c"), endpointOf("12"));
  expect(Object.keys(store.saved?.endpoints ?? {})).toEqual([idOf("a"), idOf("c")]);
});

it("a full disk permits removals, and the next convergence stores them", async () => {
  const { store, port } = createStore();
  const records = new EndpointRecords(port, nothing, options);
  await records.putEndpoint(idOf("a"), endpointOf("10"));
  store.isFull = true;
  await records.removeEndpoint(idOf("a"));
  expect(records.endpoints.size).toBe(0);
  expect(Object.keys(store.saved?.endpoints ?? {})).toEqual([idOf("a")]);
  await expect(records.saveChanges()).rejects.toThrow("no space left");
  store.isFull = false;
  await records.saveChanges();
  expect(store.saved?.endpoints).toEqual({});
  store.isFull = true;
  await records.saveChanges(); // nothing is left to save
});

it("finds the endpoints with an address, a MAC address or interfaces of another one", async () => {
  const { port } = createStore();
  const records = new EndpointRecords(port, nothing, options);
  await records.putEndpoint(idOf("a"), endpointOf("10"));
  await records.putEndpoint(idOf("b"), endpointOf("11"));
  const find = (wanted: Endpoint, id = idOf("x")) => records.findConflicts(id, wanted);
  expect(find(endpointOf("10", { mac: "0a:00:00:00:00:99" }))).toEqual([idOf("a")]);
  expect(find(endpointOf("99", { mac: endpointOf("11").mac }))).toEqual([idOf("b")]);
  expect(find(endpointOf("10", { vni: 4098 }))).toEqual([]);
  expect(find(endpointOf("99", { mac: "0a:00:00:00:00:99" }))).toEqual([]);
  expect(find(endpointOf("10"), idOf("a"))).toEqual([]);
  expect(find(endpointOf("99", { vni: 4098 }), `${"a".padEnd(60, "0")}1234`)).toEqual([idOf("a")]);
});

it("finds the endpoints of any network with a host port of another one", async () => {
  const { port } = createStore();
  const records = new EndpointRecords(port, nothing, options);
  const portOf = (protocol: "tcp" | "udp", hostPort: number) => ({ protocol, hostPort, port: 80 });
  const publishedPorts = [portOf("tcp", 20_001), portOf("udp", 20_002)];
  await records.putEndpoint(idOf("a"), endpointOf("10", { publishedPorts }));
  await records.putEndpoint(idOf("b"), endpointOf("11"));
  const find = (protocol: "tcp" | "udp", hostPort: number) => {
    const ports = [portOf("tcp", 20_000), portOf(protocol, hostPort)];
    return records.findConflicts(idOf("x"), endpointOf("12", { vni: 4098, publishedPorts: ports }));
  };
  expect(find("udp", 20_002)).toEqual([idOf("a")]);
  expect(find("udp", 20_001)).toEqual([]);
});
