import { afterEach, beforeEach, expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import type { HostNetworks } from "../../contracts/agent-protocol/host-networks.ts";
import type { HostNetwork, NetworkState } from "../../contracts/network-driver/network-state.ts";
import { silentLog } from "../../lib/log.ts";
import { pullNetworkStates } from "./network-states.ts";
import { networkBasics } from "../../../test/support/network/host-network.ts";

const network = (vni: number): HostNetwork => ({
  networkId: "net_01jd0000000000000000000000",
  vni,
  ...networkBasics,
  gateways: [],
  remotePorts: [],
});

let clock: VirtualClock;
let stopping: AbortController;
let plane: {
  answer: HostNetworks | Error;
  queries: (string | undefined)[];
  /** The versions of networks in each query. */
  versions: (readonly string[] | undefined)[];
  knows: boolean[];
};
let driver: { storedVersion: number | null; fault: Error | undefined; states: NetworkState[] };
let health: {
  isAnswering: boolean;
  tunnelAddress: string | null | undefined;
  knowsGateways: boolean;
};
let running: Promise<void>;
/** The VNIs of the networks that it has noted. */
let noted: number[][];

beforeEach(() => {
  clock = new VirtualClock();
  stopping = new AbortController();
  noted = [];
  const answer = { version: "a", networks: [network(1)] };
  plane = { answer, queries: [], versions: [], knows: [] };
  driver = { storedVersion: null, fault: undefined, states: [] };
  health = { isAnswering: true, tunnelAddress: "192.0.2.1", knowsGateways: false };
});
afterEach(async () => {
  stopping.abort(new Error("the test ends"));
  await running;
});

function start(): void {
  running = pullNetworkStates(
    {
      onNetworks: (networks) => noted.push(networks.map(({ vni }) => vni)),
      hostNetworks: {
        async read({ version, networkVersions, knowsGateways }) {
          plane.queries.push(version);
          plane.versions.push(networkVersions);
          plane.knows.push(knowsGateways);
          if (plane.answer instanceof Error) throw plane.answer;
          return plane.answer.version === version
            ? { ...plane.answer, networks: null }
            : plane.answer;
        },
      },
      driver: {
        async status() {
          return {
            version: "test",
            isReady: driver.storedVersion !== null,
            reason: driver.storedVersion === null ? "The network state is unreadable." : null,
            networks: 0,
            endpoints: 0,
            flows: 0,
            names: { state: "off", reason: null },
            networkStateVersion: driver.storedVersion,
            unknownInterfaces: [],
            publishesPorts: false,
            knowsGateways: false,
            takenPorts: [],
            connectionsReason: null,
          };
        },
        async putNetworkState(state) {
          if (driver.fault) throw driver.fault;
          driver.storedVersion = state.version;
          driver.states.push(state);
          return { isApplied: true };
        },
      },
      health,
      clock,
      log: silentLog,
      random: () => 0,
      limits: { waitMs: 25_000, driverRetryMs: 1_000 },
      pauseMs: () => 0,
    },
    stopping.signal,
  );
}

const source = expect.stringMatching(/^[\w-]{1,64}$/);

it("hands each version to the driver once, counted from the start of this process", async () => {
  driver.storedVersion = 7;
  start();
  await clock.pass(2_000);
  plane.answer = { version: "b", networks: [network(2)] };
  await clock.pass(2_000);
  expect(driver.states).toEqual([
    { source, version: 1, tunnelAddress: "192.0.2.1", networks: [network(1)] },
    { source, version: 2, tunnelAddress: "192.0.2.1", networks: [network(2)] },
  ]);
  expect(noted).toEqual([[1], [2]]);
  expect(new Set(plane.queries)).toEqual(new Set([undefined, "a", "b"]));
  stopping.abort(new Error("the process ends"));
  await running;
  stopping = new AbortController();
  start();
  await clock.pass(1_000);
  expect(driver.states.map(({ version }) => version)).toEqual([1, 2, 1]);
  expect(new Set(driver.states.map((state) => state.source)).size).toBe(2);
});

it("hands the driver nothing before the address of the host is known", async () => {
  health.tunnelAddress = undefined;
  start();
  await clock.pass(10_000);
  expect(driver.states).toEqual([]);
  health.tunnelAddress = null;
  await clock.pass(2_000);
  expect(driver.states).toMatchObject([{ tunnelAddress: null }]);
});

it("hands the same networks again if the address of the host changes", async () => {
  start();
  await clock.pass(1_000);
  health.tunnelAddress = "192.0.2.9";
  await clock.pass(1_000);
  expect(driver.states.at(-1)).toEqual({
    source,
    version: 2,
    tunnelAddress: "192.0.2.9",
    networks: [network(1)],
  });
});

it("hands the networks again to a driver that has lost them", async () => {
  start();
  await clock.pass(1_000);
  driver.storedVersion = null;
  await clock.pass(30_000);
  expect(driver.states.map(({ version, networks }) => ({ version, networks }))).toEqual([
    { version: 1, networks: [network(1)] },
    { version: 2, networks: [network(1)] },
  ]);
});

it("repeats a version that the driver has not taken, and waits while the API is down", async () => {
  driver.fault = new Error("no space left on device");
  start();
  await clock.pass(10_000);
  expect(new Set(plane.queries)).toEqual(new Set([undefined]));
  driver.fault = undefined;
  await clock.pass(60_000);
  expect(driver.states).toHaveLength(1);
  plane.answer = new Error("connect ECONNREFUSED");
  const calls = plane.queries.length;
  await clock.pass(60_000);
  expect(plane.queries.length - calls).toBeLessThan(60);
  expect(driver.states).toHaveLength(1);
});

const versionOf = (character: string) => character.repeat(32);

/** An answer that leads from one version of the network to the next, which has another name. */
function changeOf(version: string, from: string | null, change: object = {}): HostNetworks {
  const { networkId, gateways, endConnectionsCount } = network(1);
  const list = { put: [], removed: [] };
  const step = {
    name: `name-${version}`,
    gateways,
    endConnectionsCount,
    rules: list,
    remotePorts: list,
    services: list,
  };
  const counts = { rules: 0, remotePorts: 0, services: 0, members: 0 };
  return {
    version,
    networks: from === null ? [network(1)] : [],
    changes: [
      {
        networkId,
        version: versionOf(version),
        from: from && versionOf(from),
        steps: from === null ? [] : [step],
        counts,
        ...change,
      },
    ],
  };
}

it("applies the changes of the networks that it has", async () => {
  plane.answer = changeOf("a", null);
  start();
  await clock.pass(1_000);
  plane.answer = changeOf("b", "a");
  await clock.pass(1_000);
  expect(driver.states.map(({ networks }) => networks)).toEqual([
    [network(1)],
    [{ ...network(1), name: "name-b" }],
  ]);
  expect(plane.versions[0]).toEqual([]);
  expect(plane.versions.at(-1)).toEqual([versionOf("b")]);
  // It repeats the changes that the driver has not taken from the same version.
  driver.fault = new Error("no space left on device");
  plane.answer = changeOf("c", "b");
  await clock.pass(1_000);
  expect(plane.versions.at(-1)).toEqual([versionOf("b")]);
  driver.fault = undefined;
  await clock.pass(60_000);
  expect(driver.states.at(-1)?.networks).toMatchObject([{ name: "name-c" }]);
});

it("reads its networks whole after changes that do not apply", async () => {
  plane.answer = changeOf("a", null);
  start();
  await clock.pass(1_000);
  const count = { rules: 1, remotePorts: 0, services: 0, members: 0 };
  for (const answer of [
    changeOf("b", "x"),
    changeOf("b", "a", { counts: count }),
    changeOf("b", "a", { later: true }),
  ]) {
    plane.answer = answer;
    plane.versions = [];
    await clock.pass(60_000);
    expect(plane.versions).toContain(undefined);
    expect(driver.states).toHaveLength(1);
  }
  plane.answer = { version: "b", networks: [network(2)] };
  await clock.pass(60_000);
  expect(driver.states.at(-1)?.networks).toEqual([network(2)]);
  expect(plane.versions.at(-1)).toEqual([]);
});

it("says at each read whether the driver knows gateways, because a rollback may replace it", async () => {
  health.knowsGateways = true;
  start();
  await clock.pass(2_000);
  expect(new Set(plane.knows)).toEqual(new Set([true]));
  plane.knows = [];
  health.knowsGateways = false;
  await clock.pass(2_000);
  expect(plane.knows.at(-1)).toBe(false);
});

it("reads nothing without a network driver", async () => {
  health.isAnswering = false;
  start();
  await clock.pass(60_000);
  expect(plane.queries).toEqual([]);
});
