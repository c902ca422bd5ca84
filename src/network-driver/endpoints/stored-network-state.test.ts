import { expect, it } from "vitest";
import {
  type LoadedNetworkState,
  NETWORKS_PER_HOST_MAX,
} from "../../contracts/network-driver/network-state.ts";
import { serviceStateOf } from "../../../test/support/network/host-network.ts";
import { newId } from "../../lib/ids.ts";
import type { LoadedState } from "../ports/state-store.ts";
import { StoredNetworkState } from "./stored-network-state.ts";

const networkId = newId("net");
let version = 0;

function stateOf(networks: Record<string, string[]>, addresses?: string[]) {
  version += 1;
  return serviceStateOf(version, networks, addresses);
}

/** Returns a state of the driver, and a function that starts another one from its file. */
function load(loaded: LoadedState<LoadedNetworkState>) {
  let file = loaded;
  const store = {
    load: async () => file,
    save: async (read: () => LoadedNetworkState) => {
      file = { kind: "valid", value: structuredClone(read()) };
    },
  };
  const state = new StoredNetworkState(store, loaded);
  const list = () => state.listDepartures().map(([id]) => id);
  return { state, list, restart: () => load(file) };
}

it("lists the networks that sets leave, even if the network leaves, until they are complete", () => {
  const { state, list } = load({ kind: "valid", value: stateOf({ [networkId]: ["a", "b"] }) });
  state.accept(stateOf({ [networkId]: ["b", "c", "a"] }));
  expect(list()).toEqual([]);
  state.accept(stateOf({ [networkId]: ["b", "c"] }));
  const [first] = state.listDepartures();
  state.accept(stateOf({}));
  expect(list()).toEqual([networkId]);
  // Sets have left since.
  state.completeDepartures(networkId, first?.[1] ?? 0);
  expect(list()).toEqual([networkId]);
  const [second] = state.listDepartures();
  state.completeDepartures(networkId, second?.[1] ?? 0);
  expect(list()).toEqual([]);
});

it("lists no network of a service without a service address", () => {
  const value = stateOf({ [networkId]: ["a"] }, []);
  const { state, list } = load({ kind: "valid", value });
  state.accept(stateOf({ [networkId]: [] }));
  expect(list()).toEqual([]);
});

it("lists them again after a restart, and all networks without an earlier state", async () => {
  const { state, list, restart } = load({ kind: "missing" });
  state.accept(stateOf({ [networkId]: ["a"] }));
  expect(list()).toEqual([networkId]);
  await state.save();
  const restarted = restart();
  expect(restarted.list()).toEqual([networkId]);
  expect(restarted.state.accept(stateOf({ [networkId]: ["a"] }))).toBeUndefined();
  expect(restarted.list()).toEqual([networkId]);
});

it("lists the network that has waited longest first, however often sets leave it", () => {
  const other = newId("net");
  const value = stateOf({ [networkId]: ["a", "b", "c"], [other]: ["a"] });
  const { state, list } = load({ kind: "valid", value });
  state.accept(stateOf({ [networkId]: ["a", "b"], [other]: [] }));
  const [first] = state.listDepartures();
  expect(list()).toEqual([networkId, other]);
  state.accept(stateOf({ [networkId]: ["a"], [other]: [] }));
  expect(list()).toEqual([networkId, other]);
  // It has had its turn, and sets have left since.
  state.completeDepartures(networkId, first?.[1] ?? 0);
  expect(list()).toEqual([other, networkId]);
});

it("lists a bounded number of networks, the newest ones", () => {
  const ids = Array.from({ length: NETWORKS_PER_HOST_MAX }, () => newId("net"));
  const value = stateOf({ [networkId]: ["a"] });
  const { state, list } = load({ kind: "valid", value });
  state.accept(stateOf(Object.fromEntries(ids.map((id) => [id, ["a"]]))));
  expect(list()).toEqual([networkId]);
  state.accept(stateOf({}));
  expect(list()).toEqual(ids);
});

it("lists a network that a set leaves to which ports of this host led, without a service address", () => {
  const { state, list } = load({ kind: "missing" });
  const [before] = stateOf({ [networkId]: ["a", "b"] }, []).networks;
  const serviceId = before?.services[0]?.serviceId ?? "";
  const ports = [{ serviceId, protocol: "tcp" as const, hostPort: 443, port: 8_443 }];
  const gateway = { address: "10.64.9.9", ports };
  state.accept({ ...stateOf({}), networks: before ? [{ ...before, gateway }] : [] });
  for (const [id, departures] of state.listDepartures()) state.completeDepartures(id, departures);
  state.accept(stateOf({ [networkId]: ["b"] }, []));
  expect(list()).toEqual([networkId]);
});
