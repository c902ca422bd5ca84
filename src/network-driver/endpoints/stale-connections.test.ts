import { expect, it } from "vitest";
import { serviceStateOf } from "../../../test/support/network/host-network.ts";
import type { PublishedPort } from "../../contracts/network-driver/published-ports.ts";
import { newId } from "../../lib/ids.ts";
import { silentLog as log } from "../../lib/log.ts";
import type { Endpoint } from "../model/driver-records.ts";
import type { NetworkState } from "../../contracts/network-driver/network-state.ts";
import type { TrackedConnections, Translation } from "../ports/switch-port.ts";
import { StaleConnections } from "./stale-connections.ts";
import { StoredNetworkState } from "./stored-network-state.ts";

const signal = new AbortController().signal;
const networkId = newId("net");
/** The service address of serviceStateOf, and the address of the network for its host. */
const [service, published] = ["10.64.1.1", "198.19.0.7"];

/**
 * A host with two local containers, whose switch has these translations in the zone 7. The first
 * container has a published port.
 */
function createHost(translations: Translation[]) {
  const state = new StoredNetworkState(
    { load: async () => ({ kind: "missing" }), save: async () => undefined },
    { kind: "valid", value: serviceStateOf(1, { [networkId]: ["10.64.0.2", "10.64.0.3"] }) },
  );
  const ended: string[][] = [];
  const endedInSecondZone: TrackedConnections[] = [];
  const faults = { whileListing: () => undefined as unknown };
  const publishedPorts: PublishedPort[] = [{ protocol: "tcp", hostPort: 20_001, port: 80 }];
  const local = [
    { networkId, addresses: ["10.64.0.2/16"], publishedPorts },
    { networkId, addresses: ["10.64.0.4/16"] },
  ] as unknown as Endpoint[];
  const connections = new StaleConnections({
    networkState: state,
    records: { endpoints: new Map(local.map((endpoint, index) => [`${index}`, endpoint])) },
    switchPort: {
      listTranslations: async (zone) => {
        faults.whileListing();
        return zone === 7 ? translations : [];
      },
      endConnections: async (one: TrackedConnections) => {
        if (one.zone === 8) endedInSecondZone.push(one);
        else
          ended.push(
            translations
              .filter((each) => one.isStale?.(each))
              .map(({ destination, translatedTo }) =>
                destination === published ? `published ${translatedTo}` : translatedTo,
              ),
          );
      },
    },
    uplink: { firstAddress: "198.19.0.0" },
    log,
  });
  /** As when the flows of the current state are in force. */
  const apply = (gatewayZone?: number) =>
    connections.update(
      (state.current?.networks ?? []).map((network) => {
        return { ...network, conntrackZone: 7, gatewayZone };
      }),
    );
  return { state, connections, ended, endedInSecondZone, faults, apply };
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
  expect(ended).toEqual([["published 10.64.0.9"]]);
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

/** As `serviceStateOf`, with a port of the host that leads to the service. */
function gatewayStateOf(version: number, addresses: string[]): NetworkState {
  const state = serviceStateOf(version, { [networkId]: addresses });
  const networks = state.networks.map((network) => {
    const [{ serviceId } = { serviceId: "" }] = network.services;
    const ports = [{ serviceId, protocol: "tcp" as const, hostPort: 443, port: 8_443 }];
    return { ...network, gateway: { address: "10.64.9.9", ports } };
  });
  return { ...state, networks };
}

it("ends what leads to departed sets on other hosts in the second zone of a gateway", async () => {
  const { state, connections, ended, endedInSecondZone, apply } = createHost([]);
  state.accept(gatewayStateOf(2, ["10.64.0.3"]));
  apply(8);
  await connections.end(signal);
  expect(ended).toEqual([]);
  const [request] = endedInSecondZone;
  expect(request?.zone).toBe(8);
  const isEnded = ["10.64.0.2", "10.64.0.3"].map((address) =>
    request?.isStale?.({ destination: address, translatedTo: address }),
  );
  expect(isEnded).toEqual([true, false]);
});

it("ends what a closed port of a gateway led to on any host, and nothing else", async () => {
  const { state, connections, ended, apply } = createHost([
    { destination: published, translatedTo: "10.64.0.2" }, // by a published port, too
    { destination: published, translatedTo: "10.64.0.3" },
    { destination: published, translatedTo: "10.64.0.4" },
    { destination: service, translatedTo: "10.64.0.3" },
  ]);
  const members = ["10.64.0.2", "10.64.0.3", "10.64.0.4"];
  state.accept(gatewayStateOf(2, members));
  apply(8);
  await connections.end(signal);
  expect(ended).toEqual([]);
  expect(state.listDepartures()).toEqual([]);
  state.accept(serviceStateOf(3, { [networkId]: members }));
  apply();
  await connections.end(signal);
  expect(ended).toEqual([["published 10.64.0.3", "published 10.64.0.4"]]);
});
