import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { newId } from "../../src/lib/ids.ts";
import { startSwitchDriver, stateOf, type SwitchDriver } from "../support/network/switch-driver.ts";
import { startSwitchSets } from "../support/network/switch-sets.ts";
import type { FakeSet } from "../support/ovs/fake-set.ts";

const { signal } = new AbortController();
const serviceAddress = "10.64.1.1";
const numbers = [1, 2, 3];
const setIds = numbers.map(() => newId("set"));
const serviceId = newId("svc");

/** A driver with three containers. The test puts network states, as the agent does. */
let host: SwitchDriver;
let client: FakeSet;
let sets: FakeSet[] = [];
let version = 0;

beforeAll(async () => {
  host = await startSwitchDriver();
  sets = await startSwitchSets(host, numbers);
  client = sets[0] as FakeSet;
});
afterAll(async () => {
  for (const set of sets) await set.close();
  await host.close();
});
beforeEach(() => putMembers(2, 3));

/** Puts a network state whose service has the sets with these numbers. */
async function putMembers(...members: number[]): Promise<void> {
  version += 1;
  const service = {
    serviceId,
    name: "web",
    addresses: [serviceAddress],
    members: members.map((number) => ({
      setId: setIds[number - 1],
      addresses: [`10.64.0.${number}`],
      isEndpoint: true,
    })),
    ports: [],
  };
  const answer = await host.put(stateOf(host, version, { services: [service] }));
  expect(answer).toMatchObject({ body: { isApplied: true } });
}

/** Sends a datagram from this port of the client, and returns the name of the set that answers. */
async function askFrom(sourcePort: number, timeoutMs = 10_000): Promise<string> {
  const answer = await client.probe("udp", serviceAddress, { sourcePort, timeoutMs });
  return answer.replace(":hello", "");
}

it("reaches the sets of the network state through the service address", async () => {
  const ports = Array.from({ length: 20 }, (_, index) => 9_000 + index);
  const names = new Set<string>();
  for (const port of ports) names.add(await askFrom(port));
  expect([...names].toSorted()).toEqual(["set-2", "set-3"]);
});

it("ends the connections to a deleted set, so that a port is usable again", async () => {
  await putMembers(2);
  for (let port = 9_100; port < 9_120; port += 1) expect(await askFrom(port)).toBe("set-2");
  await putMembers(3);
  for (let port = 9_100; port < 9_120; port += 1) expect(await askFrom(port)).toBe("set-3");
  // A set that returns retains its connections.
  await putMembers(2, 3);
  expect(await askFrom(9_100)).toBe("set-3");
});

it("ends a connection that opens before the datapath has the flows without the set", async () => {
  const daemon = (...args: string[]) =>
    host.ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", ...args);
  await putMembers(2);
  expect(await askFrom(9_103)).toBe("set-2");
  await daemon("revalidator/pause");
  await daemon("dpctl/flush-conntrack", "zone=4098");
  const putting = putMembers(3);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(await askFrom(9_103)).toBe("set-2");
  await daemon("revalidator/resume");
  await putting;
  await host.driver.endConnections(signal); // on a busy machine, the first call may be late
  expect(await askFrom(9_103)).toBe("set-3");
});

it("ends them later if the switch refuses at first, and is ready meanwhile", async () => {
  await putMembers(2);
  expect(await askFrom(9_101)).toBe("set-2");
  const endConnections = host.switchPort.endConnections.bind(host.switchPort);
  let calls = 0;
  host.switchPort.endConnections = async () => {
    calls += 1;
    throw new Error("Open vSwitch has two datapaths.");
  };
  await putMembers(3);
  await host.driver.endConnections(signal);
  expect(calls).toBe(2);
  expect(await askFrom(9_101, 1_000)).toMatch(/^error: /);
  host.switchPort.endConnections = endConnections;
  await host.driver.endConnections(signal);
  expect(await askFrom(9_101)).toBe("set-3");
});

it("has the same connections after a restart of the driver", async () => {
  await putMembers(2);
  expect(await askFrom(9_102)).toBe("set-2");
  await putMembers(2, 3);
  await host.restart();
  await host.driver.converge(signal);
  expect(await askFrom(9_102)).toBe("set-2");
  await putMembers(3);
  expect(await askFrom(9_102)).toBe("set-3");
});

it("ends the connections to a set that left before a restart of the driver, and no others", async () => {
  await putMembers(2, 3);
  const ports = Array.from({ length: 20 }, (_, index) => 9_200 + index);
  const earlier = new Map<number, string>();
  for (const port of ports) earlier.set(port, await askFrom(port));
  expect(new Set(earlier.values())).toEqual(new Set(["set-2", "set-3"]));
  const endConnections = host.switchPort.endConnections.bind(host.switchPort);
  host.switchPort.endConnections = async () => {
    throw new Error("The driver dies.");
  };
  await putMembers(3);
  await host.restart();
  host.switchPort.endConnections = endConnections;
  await host.driver.converge(signal);
  await host.driver.endConnections(signal);
  const dump = ["--target=ovs-vswitchd", "dpctl/dump-conntrack", "zone=4098"];
  const listed = await host.ovs.ovs("ovs-appctl", ...dump);
  const tracked = ports.filter((port) => listed.includes(`dst=${serviceAddress},sport=${port},`));
  expect(tracked).toEqual(ports.filter((port) => earlier.get(port) === "set-3"));
  for (const port of ports) expect(await askFrom(port)).toBe("set-3");
});
