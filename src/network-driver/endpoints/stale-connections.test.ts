import { expect, it } from "vitest";
import { serviceStateOf } from "../../../test/support/network/host-network.ts";
import { newId } from "../../lib/ids.ts";
import { silentLog as log } from "../../lib/log.ts";
import type { Endpoint } from "../model/driver-records.ts";
import type { TrackedConnections, Translation } from "../ports/switch-port.ts";
import { StaleConnections } from "./stale-connections.ts";
import { StoredNetworkState } from "./stored-network-state.ts";

const signal = new AbortController().signal;
const networkId = newId("net");
/** The service address of serviceStateOf, and the address of the network for its host. */
const [service, published] = ["10.64.1.1", "198.19.0.7"];

/** A host with one local container, whose switch has these translations in the zone 7. */
function createHost(translations: Translation[]) {
  const state = new StoredNetworkState(
    { load: async () => ({ kind: "missing" }), save: async () => undefined },
    { kind: "valid", value: serviceStateOf(1, { [networkId]: ["10.64.0.2", "10.64.0.3"] }) },
  );
  const ended: string[][] = [];
  const faults = { whileListing: () => undefined as unknown };
  const endpoint = { networkId, addresses: ["10.64.0.2/16"] } as unknown as Endpoint;
  const connections = new StaleConnections({
    networkState: state,
    records: { endpoints: new Map([["a", endpoint]]) },
    switchPort: {
      listTranslations: async (zone) => {
        faults.whileListing();
        return zone === 7 ? translations : [];
      },
      endConnections: async ({ addresses = new Set() }: TrackedConnections) => {
        ended.push([...addresses]);
      },
    },
    uplink: { firstAddress: "198.19.0.0" },
    log,
  });
  /** As when the flows of the current state are in force. */
  const apply = () =>
    connections.update(
      (state.current?.networks ?? []).map((network) => ({ ...network, conntrackZone: 7 })),
    );
  return { state, connections, ended, faults, apply };
}

it("ends what leads to a departed set, once the flows of the state are in force", async () => {
  const { state, connections, ended, apply } = createHost([
    { destination: service, translatedTo: "10.64.0.2" },
    { destination: service, translatedTo: "10.64.0.3" },
  ]);
  apply();
  state.accept(serviceStateOf(2, { [networkId]: ["10.64.0.3"] }));
  await connections.end(signal);
  expect(ended).toEqual([]);
  apply();
  await connections.end(signal);
  await connections.end(signal);
  expect(ended).toEqual([["10.64.0.2"]]);
});

it("does not end what a published port leads to a container that no state has", async () => {
  const { state, connections, ended, apply } = createHost([
    { destination: published, translatedTo: "10.64.0.2" },
    { destination: published, translatedTo: "10.64.0.9" },
  ]);
  state.accept(serviceStateOf(2, { [networkId]: ["10.64.0.3"] }));
  apply();
  await connections.end(signal);
  expect(ended).toEqual([["10.64.0.9"]]);
});

it("does not end what leads to a set that comes meanwhile, and looks again after a departure", async () => {
  const { state, connections, ended, faults, apply } = createHost([
    { destination: service, translatedTo: "10.64.0.4" },
  ]);
  state.accept(serviceStateOf(2, { [networkId]: ["10.64.0.3"] }));
  apply();
  faults.whileListing = () => state.accept(serviceStateOf(3, { [networkId]: ["10.64.0.4"] }));
  await connections.end(signal);
  expect(ended).toEqual([]);
  expect(state.listDepartures()).toHaveLength(1);
  faults.whileListing = () => undefined;
  apply();
  await connections.end(signal);
  expect(ended).toEqual([]);
  expect(state.listDepartures()).toEqual([]);
});
