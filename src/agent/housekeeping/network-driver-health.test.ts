import { afterEach, beforeEach, expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import type { DriverStatus } from "../../contracts/network-driver/driver-status.ts";
import { silentLog } from "../../lib/log.ts";
import { NetworkDriverHealth } from "./network-driver-health.ts";

const limits = { driverIntervalMs: 5_000, driverRetryMs: 1_000, driverGraceMs: 10_000 };
const ready: DriverStatus = {
  version: "test",
  isReady: true,
  reason: null,
  networks: 0,
  endpoints: 0,
  flows: 0,
  names: { state: "off", reason: null },
  networkStateVersion: null,
  publishesPorts: true,
  knowsGateways: true,
  takenPorts: [],
  connectionsReason: null,
  unknownInterfaces: [],
};

let clock: VirtualClock;
let stopping: AbortController;
let answer: DriverStatus | Error;
let hasAttachedSets: boolean;
let tunnelAddress: string | null | undefined;
let changes: boolean[];
let health: NetworkDriverHealth;
let running: Promise<void>;

beforeEach(() => {
  clock = new VirtualClock();
  stopping = new AbortController();
  answer = ready;
  hasAttachedSets = false;
  tunnelAddress = "192.0.2.7";
  changes = [];
  health = new NetworkDriverHealth({
    port: {
      async status() {
        if (answer instanceof Error) throw answer;
        return answer;
      },
      putNetworkState: async () => ({ isApplied: true }),
    },
    clock,
    log: silentLog,
    limits,
    hasAttachedSets: () => hasAttachedSets,
    findTunnelAddress: async () => tunnelAddress,
    onChange: () => changes.push(health.hasNetworks),
  });
});
afterEach(async () => {
  stopping.abort(new Error("the test ends"));
  await running;
});

const start = async () => {
  running = health.run(stopping.signal);
  await clock.pass(0);
};

it("a host has networks while its driver is ready, and a short failure changes nothing", async () => {
  await start();
  expect(health).toMatchObject({ isKnown: true, hasNetworks: true, reason: undefined });
  answer = new Error("connect ENOENT");
  await clock.pass(9_000);
  answer = ready;
  await clock.pass(30_000);
  expect(changes).toEqual([true]);
});

it("reports another address of the host after two equal results", async () => {
  await start();
  expect(health.tunnelAddress).toBe("192.0.2.7");
  tunnelAddress = "192.0.2.8";
  await clock.pass(5_000);
  tunnelAddress = "192.0.2.9";
  await clock.pass(5_000);
  expect(health.tunnelAddress).toBe("192.0.2.7");
  await clock.pass(5_000);
  expect(health.tunnelAddress).toBe("192.0.2.9");
  expect(changes).toEqual([true, true]);
});

it("retains the address while it cannot be found, and has none before", async () => {
  tunnelAddress = undefined;
  await start();
  expect(health.tunnelAddress).toBeUndefined();
  tunnelAddress = "192.0.2.7";
  await clock.pass(5_000);
  tunnelAddress = undefined;
  await clock.pass(60_000);
  expect(health.tunnelAddress).toBe("192.0.2.7");
});

it("a driver that does not answer is the reason of the host, until it is ready", async () => {
  await start();
  answer = new Error("connect ENOENT");
  await clock.pass(5_000 + 11_000);
  expect(health).toMatchObject({
    hasNetworks: false,
    reason: { code: "network-driver-failed", text: expect.stringContaining("connect ENOENT") },
  });
  expect(health.isAnswering).toBe(false);
  answer = { ...ready, isReady: false, reason: "Open vSwitch is down." };
  await clock.pass(5_000);
  expect(health.reason?.text).toContain("Open vSwitch is down.");
  expect(health.isAnswering).toBe(true);
  answer = ready;
  await clock.pass(5_000);
  expect(health).toMatchObject({ hasNetworks: true, reason: undefined });
  expect(changes).toEqual([true, false, true]);
});

it("a driver that waits for the agent's networks is answering, and has the host's address", async () => {
  answer = { ...ready, isReady: false, reason: "The stored network state is unreadable." };
  await start();
  expect(health).toMatchObject({
    isAnswering: true,
    hasNetworks: false,
    tunnelAddress: "192.0.2.7",
  });
});

it("a host has names while its driver has a name server, which may fail for a moment", async () => {
  answer = { ...ready, names: { state: "up", reason: null } };
  await start();
  expect(health).toMatchObject({ hasNetworks: true, hasNames: true, reason: undefined });
  answer = { ...ready, names: { state: "down", reason: "It does not answer." } };
  await clock.pass(5_000 + 9_000);
  expect(health.reason).toBeUndefined();
  await clock.pass(5_000);
  expect(health).toMatchObject({
    hasNetworks: true,
    hasNames: true,
    reason: { code: "names-failed", text: expect.stringContaining("It does not answer.") },
  });
  answer = { ...ready, names: { state: "up", reason: null } };
  await clock.pass(5_000);
  expect(health.reason).toBeUndefined();
  answer = ready;
  await clock.pass(5_000);
  expect(health).toMatchObject({ hasNetworks: true, hasNames: false, reason: undefined });
  expect(changes).toEqual([true, true]);
});

it("a host names published ports at which another program listens, and still has networks", async () => {
  answer = { ...ready, takenPorts: ["20001/tcp", "20002/udp"] };
  await start();
  expect(health).toMatchObject({
    hasNetworks: true,
    reason: {
      code: "published-ports-blocked",
      text: expect.stringContaining("ports 20001/tcp, 20002/udp, so"),
    },
  });
  answer = ready;
  await clock.pass(5_000);
  expect(health.reason).toBeUndefined();
});

it("a host says why connections that must end are open, and still has networks", async () => {
  const connectionsReason = "Open vSwitch has checked its flows for more than 5 s.";
  answer = { ...ready, connectionsReason };
  await start();
  expect(health).toMatchObject({
    hasNetworks: true,
    reason: { code: "connections-not-ended", text: expect.stringContaining(connectionsReason) },
  });
  answer = ready;
  await clock.pass(5_000);
  expect(health.reason).toBeUndefined();
});

it("a host without a driver has no reason, unless its sets have networks", async () => {
  answer = new Error("connect ENOENT");
  await start();
  expect(health).toMatchObject({ isKnown: true, hasNetworks: false, reason: undefined });
  hasAttachedSets = true;
  expect(health.reason?.code).toBe("network-driver-failed");
});

it("a started agent with attached sets waits for its driver before it reports features", async () => {
  answer = new Error("connect ENOENT");
  hasAttachedSets = true;
  await start();
  await clock.pass(5_000);
  expect(health.isKnown).toBe(false);
  answer = ready;
  await clock.pass(1_000);
  expect(health).toMatchObject({ isKnown: true, hasNetworks: true });
  expect(changes).toEqual([true]);
});

it("denies that the driver knows gateways only after the answer of an older driver", async () => {
  answer = new Error("connect ENOENT");
  await start();
  expect(health.knowsGateways).toBe(true);
  answer = { ...ready, knowsGateways: false };
  await clock.pass(20_000);
  expect(health.knowsGateways).toBe(false);
  answer = new Error("connect ENOENT");
  await clock.pass(20_000);
  expect(health.knowsGateways).toBe(false);
});
