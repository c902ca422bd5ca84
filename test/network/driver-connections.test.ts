import { rm } from "node:fs/promises";
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

const denyDatabase = {
  direction: "ingress",
  action: "deny",
  serviceId: serviceIds[1] ?? null,
} as const;

function stateWith(...changes: Partial<HostRule>[]) {
  version += 1;
  const services = numbers.map((number, index) => ({
    serviceId: serviceIds[index],
    name: `service-${number}`,
    addresses: [],
    members: [{ setId: setIds[index], addresses: [`10.64.0.${number}`], isEndpoint: true }],
    ports: [],
  }));
  const rules = changes.map((change, index) => sampleRule(index, change));
  return stateOf(host, version, { services, rules, endConnectionsCount });
}

async function putRules(...changes: Partial<HostRule>[]): Promise<void> {
  const answer = await host.put(stateWith(...changes));
  expect(answer).toMatchObject({ body: { isApplied: true, isStored: true } });
}

/** Sends a datagram from this port of the client. Datagrams of one port are one connection. */
async function ask(number: number, sourcePort: number): Promise<string> {
  const options = { sourcePort, timeoutMs: silenceMs };
  const answer = await client.probe("udp", `10.64.0.${number}`, options);
  return answer.startsWith("error: ") ? "silence" : answer.replace(":hello", "");
}

function createGate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

it("permits no new connection in a network that only Docker knows, until the state has it", async () => {
  expect(await ask(2, 9_100)).toBe("set-2");
  await host.put({ ...stateWith(), networks: [] });
  expect(await ask(2, 9_101)).toBe("silence");
  // An open connection continues.
  expect(await ask(2, 9_100)).toBe("set-2");
  await rm(host.files.networkState);
  await host.restart();
  await host.driver.converge(signal);
  expect(await ask(2, 9_102)).toBe("silence");
  expect(await ask(2, 9_100)).toBe("set-2");
  await putRules();
  expect(await ask(2, 9_101)).toBe("set-2");
});

it("ends a connection on which the server sends, and its data opens no other one", async () => {
  const nextText = await client.subscribe("10.64.0.2");
  const nextOther = await client.subscribe("10.64.0.3");
  endConnectionsCount += 1;
  await putRules({ ...denyDatabase, protocol: "tcp" });
  /** Texts that have arrived before are first, so this reads all of them. */
  const hearEnd = async (): Promise<string> => {
    for (let text = 0; text < 200; text += 1) {
      const answer = await nextText(2 * silenceMs);
      if (answer !== "set-2:stream") return answer;
    }
    return "the stream continues";
  };
  expect(await hearEnd()).toBe("error: timed out");
  for (let text = 0; text < 100; text += 1) expect(await nextOther(30_000)).toBe("set-3:stream");
});

it("ends connections by the rules of the request, and not by flows of earlier rules", async () => {
  expect(await ask(2, 9_200)).toBe("set-2");
  const replaceFlows = host.switchPort.replaceFlows.bind(host.switchPort);
  const gate = createGate();
  let isCompiled = false;
  host.switchPort.replaceFlows = async (flows, of) => {
    host.switchPort.replaceFlows = replaceFlows;
    isCompiled = true;
    await gate.opened;
    await replaceFlows(flows, of);
  };
  const earlier = host.put(stateWith());
  await expect.poll(() => isCompiled).toBe(true);
  endConnectionsCount += 1;
  const later = host.put(stateWith(denyDatabase));
  gate.open();
  await Promise.all([earlier, later]);
  expect(await ask(2, 9_200)).toBe("silence");
});

it("ends connections while the switch cannot list those of another network, then ends all there", async () => {
  const first = { ...stateWith().networks[0], networkId: newId("net"), vni: 7_000 };
  const put = (count: number, ...changes: Partial<HostRule>[]) => {
    const state = stateWith(...changes);
    const other = { ...first, endConnectionsCount: count };
    return host.put({ ...state, networks: [other, ...state.networks] });
  };
  await put(0);
  expect(await ask(2, 9_300)).toBe("set-2");
  const endConnections = host.switchPort.endConnections.bind(host.switchPort);
  const ended: (number | "refused")[] = [];
  host.switchPort.endConnections = async (connections, of) => {
    const isOther = connections.zone === 7_001;
    if (isOther && connections.isSelected) {
      ended.push("refused");
      throw new Error("The list is too long.");
    }
    ended.push(connections.zone);
    await endConnections(connections, of);
  };
  endConnectionsCount += 1;
  await put(1, denyDatabase);
  expect(await ask(2, 9_300)).toBe("silence");
  for (let pass = 2; pass <= 4; pass += 1) await host.driver.endConnections(signal);
  host.switchPort.endConnections = endConnections;
  expect(ended).toEqual(["refused", 4_098, "refused", "refused", 7_001]);
});

it("starts a container while the end of connections takes long", async () => {
  const endConnections = host.switchPort.endConnections.bind(host.switchPort);
  const gate = createGate();
  let isEnding = false;
  host.switchPort.endConnections = async (connections, of) => {
    isEnding = true;
    await gate.opened;
    await endConnections(connections, of);
  };
  expect(await ask(2, 9_400)).toBe("set-2");
  endConnectionsCount += 1;
  const putting = host.put(stateWith(denyDatabase));
  await expect.poll(() => isEnding).toBe(true);
  const { id } = await host.createEndpoint("10.64.0.9/16");
  const late = new Promise((resolve) => setTimeout(resolve, 5_000, "late"));
  expect(await Promise.race([host.join(id), late])).toHaveProperty("InterfaceName");
  host.switchPort.endConnections = endConnections;
  gate.open();
  expect(await putting).toMatchObject({ body: { isApplied: true } });
  expect(await ask(2, 9_400)).toBe("silence");
});
