import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { HostRule } from "../../src/contracts/network-driver/host-rule.ts";
import { newId } from "../../src/lib/ids.ts";
import { sampleRule } from "../support/network/rule-samples.ts";
import { startSwitchDriver, stateOf, type SwitchDriver } from "../support/network/switch-driver.ts";
import { startSwitchSets } from "../support/network/switch-sets.ts";
import type { FakeSet } from "../support/ovs/fake-set.ts";

const { signal } = new AbortController();
const numbers = [1, 2, 3];
const setIds = numbers.map(() => newId("set"));
/** Each set is the only one of its service. */
const serviceIds = numbers.map(() => newId("svc"));
const [, database = "", admin = ""] = serviceIds;
/** Long for a packet on this machine, because these answers must not arrive. */
const silenceMs = 1_000;

/** A driver with three containers. The test puts network states, as the agent does. */
let host: SwitchDriver;
let client: FakeSet;
let sets: FakeSet[] = [];
let version = 0;
let endConnectionsCount = 0;

beforeAll(async () => {
  host = await startSwitchDriver();
  sets = await startSwitchSets(host, numbers);
  client = sets[0] as FakeSet;
});
afterAll(async () => {
  for (const set of sets) await set.close();
  await host.close();
});
beforeEach(() => putRules());

async function putRules(...changes: Partial<HostRule>[]): Promise<void> {
  version += 1;
  const services = numbers.map((number, index) => ({
    serviceId: serviceIds[index],
    name: `service-${number}`,
    addresses: [],
    members: [{ setId: setIds[index], addresses: [`10.64.0.${number}`], isEndpoint: true }],
    ports: [],
  }));
  const rules = changes.map((change, index) => sampleRule(index, change));
  const state = stateOf(host, version, { services, rules, endConnectionsCount });
  expect(await host.put(state)).toMatchObject({ body: { isApplied: true, isStored: true } });
}

/** Sends a datagram from this port of the client. Datagrams of one port are one connection. */
async function ask(number: number, sourcePort: number): Promise<string> {
  const options = { sourcePort, timeoutMs: silenceMs };
  const answer = await client.probe("udp", `10.64.0.${number}`, options);
  return answer.startsWith("error: ") ? "silence" : answer.replace(":hello", "");
}

const denyDatabase = { direction: "ingress", action: "deny", serviceId: database } as const;

it("denies new connections, and ends exactly the forbidden ones on request", async () => {
  const toDatabase = await client.connect("10.64.0.2");
  const toAdmin = await client.connect("10.64.0.3");
  for (const number of [2, 3]) expect(await ask(number, 9_100)).toBe(`set-${number}`);

  await putRules({ ...denyDatabase, protocol: "udp" });
  expect(await ask(2, 9_100)).toBe("set-2");
  expect(await ask(2, 9_101)).toBe("silence");
  expect(await ask(3, 9_101)).toBe("set-3");

  endConnectionsCount += 1;
  await putRules({ ...denyDatabase, protocol: "udp" });
  expect(await ask(2, 9_100)).toBe("silence");
  expect(await ask(3, 9_100)).toBe("set-3");
  expect(await toDatabase("after")).toBe("set-2:after");
  expect(await toAdmin("after")).toBe("set-3:after");

  endConnectionsCount += 1;
  await putRules({ ...denyDatabase, protocol: "tcp" });
  expect(await Promise.race([toDatabase("ended").catch(() => "silence"), silence()])).toBe(
    "silence",
  );
  expect(await toAdmin("ended")).toBe("set-3:ended");
});

it("ends connections later if the switch refuses, even after a restart of the driver", async () => {
  expect(await ask(2, 9_200)).toBe("set-2");
  expect(await ask(3, 9_200)).toBe("set-3");
  const endConnections = host.switchPort.endConnections.bind(host.switchPort);
  host.switchPort.endConnections = async () => {
    throw new Error("Open vSwitch has two datapaths.");
  };
  endConnectionsCount += 1;
  await putRules(denyDatabase);
  expect(await ask(2, 9_200)).toBe("set-2");
  expect(host.driver.status().isReady).toBe(true);
  host.switchPort.endConnections = endConnections;

  await host.restart();
  await host.driver.converge(signal);
  await host.driver.endConnections(signal);
  expect(await ask(2, 9_200)).toBe("silence");
  expect(await ask(3, 9_200)).toBe("set-3");

  // The request is done: a connection that a later change forbids survives another restart.
  await putRules();
  expect(await ask(2, 9_201)).toBe("set-2");
  await putRules(denyDatabase);
  await host.restart();
  await host.driver.converge(signal);
  await host.driver.endConnections(signal);
  expect(await ask(2, 9_201)).toBe("set-2");
});

it("has the same rules after a restart of the driver and a crash of the switch", async () => {
  await putRules(denyDatabase, { action: "deny", peer: { kind: "service", serviceId: admin } });
  const expectRules = async (port: number): Promise<void> => {
    expect(await ask(2, port)).toBe("silence");
    expect(await ask(3, port)).toBe("silence");
    const [, , other] = sets;
    expect(await other?.probe("udp", "10.64.0.1")).toBe("set-1:hello");
  };
  await expectRules(9_300);
  await host.restart();
  await expectRules(9_301);
  await host.driver.converge(signal);
  await expectRules(9_302);
  await host.ovs.killSwitch();
  await host.ovs.startSwitch();
  await host.driver.converge(signal);
  await host.driver.checkFlows(signal);
  await expectRules(9_303);
});

async function silence(): Promise<string> {
  await new Promise((resolve) => setTimeout(resolve, silenceMs));
  return "silence";
}
