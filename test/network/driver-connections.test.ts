import { rm } from "node:fs/promises";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import type { HostRule } from "../../src/contracts/network-driver/host-rule.ts";
import { newId } from "../../src/lib/ids.ts";
import { type RuledSets, silenceMs, startRuledSets } from "../support/network/ruled-sets.ts";

const { signal } = new AbortController();
let ruled: RuledSets;
let host: RuledSets["host"];
let client: RuledSets["client"];

beforeAll(async () => {
  ruled = await startRuledSets({ hasUplink: true });
  ({ host, client } = ruled);
});
afterAll(() => ruled.close());
beforeEach(() => ruled.putRules());

function createGate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

/** A program that sends a datagram every 5 ms, for five seconds. */
const sendDatagrams = (address: string, port: number, sourcePort: number) => `
import socket, time
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("0.0.0.0", ${sourcePort}))
sender.connect(("${address}", ${port}))
for _ in range(1000):
    try: sender.send(b"datagram")
    except OSError: pass  # the answer that nothing listens
    time.sleep(0.005)
`;

it("permits no new connection in a network that only Docker knows, until the state has it", async () => {
  expect(await ruled.ask(2, 9_100)).toBe("set-2");
  await host.put({ ...ruled.stateWith(), networks: [] });
  expect(await ruled.ask(2, 9_101)).toBe("silence");
  // An open connection continues.
  expect(await ruled.ask(2, 9_100)).toBe("set-2");
  await rm(host.files.networkState);
  await host.restart();
  await host.driver.converge(signal);
  expect(await ruled.ask(2, 9_102)).toBe("silence");
  expect(await ruled.ask(2, 9_100)).toBe("set-2");
  await ruled.putRules();
  expect(await ruled.ask(2, 9_101)).toBe("set-2");
});

it("ends a connection on which the server sends, and its data opens no other one", async () => {
  const nextText = await client.subscribe("10.64.0.2");
  const nextOther = await client.subscribe("10.64.0.3");
  ruled.requestEnd();
  await ruled.putRules({ ...ruled.denyDatabase, protocol: "tcp" });
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
  expect(await ruled.ask(2, 9_200)).toBe("set-2");
  const replaceFlows = host.switchPort.replaceFlows.bind(host.switchPort);
  const gate = createGate();
  let isCompiled = false;
  host.switchPort.replaceFlows = async (flows, of) => {
    host.switchPort.replaceFlows = replaceFlows;
    isCompiled = true;
    await gate.opened;
    await replaceFlows(flows, of);
  };
  const earlier = host.put(ruled.stateWith());
  await expect.poll(() => isCompiled).toBe(true);
  ruled.requestEnd();
  const later = host.put(ruled.stateWith(ruled.denyDatabase));
  gate.open();
  await Promise.all([earlier, later]);
  expect(await ruled.ask(2, 9_200)).toBe("silence");
});

it("ends a connection after the datapath has the flows that forbid it", async () => {
  const daemon = (...args: string[]) =>
    host.ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", ...args);
  const isOpen = async () =>
    (await daemon("dpctl/dump-conntrack")).includes("sport=9250,dport=7001");
  // Nothing listens at this port, so the server opens no connection to the client.
  const sending = client.run("python3", "-c", sendDatagrams("10.64.0.2", 7_001, 9_250));
  await expect.poll(isOpen).toBe(true);
  await daemon("revalidator/pause");
  ruled.requestEnd();
  const putting = ruled.putRules(ruled.denyDatabase);
  await new Promise((resolve) => setTimeout(resolve, silenceMs));
  await daemon("revalidator/resume");
  await putting;
  expect(await isOpen()).toBe(false);
  await new Promise((resolve) => setTimeout(resolve, silenceMs));
  expect(await isOpen()).toBe(false);
  await sending;
});

it("says why connections are open while the switch checks its flows, and ends them then", async () => {
  const daemon = (command: string) =>
    host.ovs.ovs("ovs-appctl", "--target=ovs-vswitchd", `revalidator/${command}`);
  const read = () => host.driver.status().connectionsReason;
  expect(await ruled.ask(2, 9_260)).toBe("set-2");
  await daemon("pause");
  ruled.requestEnd();
  await host.put(ruled.stateWith(ruled.denyDatabase));
  expect(read()).toBeNull();
  for (let attempt = 0; attempt < 3 && read() === null; attempt += 1)
    await host.driver.endConnections(signal);
  expect(read()).toContain("Open vSwitch has checked its flows for more than 5 s.");
  await daemon("resume");
  await expect
    .poll(async () => {
      await host.driver.endConnections(signal);
      return read();
    })
    .toBeNull();
  expect(await ruled.ask(2, 9_260)).toBe("silence");
});

it("ends connections to external addresses, and no query to the name server", async () => {
  const gateway = "10.64.255.254";
  const put = (...changes: Partial<HostRule>[]) => {
    const { networks, ...state } = ruled.stateWith(...changes);
    const withGateway = networks.map((network) => ({ ...network, gateways: [gateway] }));
    return host.put({ ...state, networks: withGateway });
  };
  const listDestinations = async () => {
    const dump = ["--target=ovs-vswitchd", "dpctl/dump-conntrack", "zone=4098"];
    const connections = await host.ovs.ovs("ovs-appctl", ...dump);
    return [...connections.matchAll(/orig=\(src=10\.64\.0\.1,dst=([\d.]+),/g)]
      .map(([, destination = ""]) => destination)
      .filter((destination) => !destination.startsWith("10."))
      .sort();
  };
  await put();
  await client.run("ip", "route", "add", "default", "via", gateway);
  const brief = { timeoutMs: 100 };
  await client.probe("udp", gateway, { ...brief, port: 53 });
  await client.probe("udp", "192.0.2.1", brief);
  expect(await listDestinations()).toEqual(["192.0.2.1", "198.19.255.255"]);
  ruled.requestEnd();
  await put({ direction: "egress", action: "deny" });
  expect(await listDestinations()).toEqual(["198.19.255.255"]);
});

it("ends connections while the switch cannot list those of another network, then ends all there", async () => {
  const first = { ...ruled.stateWith().networks[0], networkId: newId("net"), vni: 7_000 };
  const put = (count: number, ...changes: Partial<HostRule>[]) => {
    const state = ruled.stateWith(...changes);
    const other = { ...first, endConnectionsCount: count };
    return host.put({ ...state, networks: [other, ...state.networks] });
  };
  await put(0);
  expect(await ruled.ask(2, 9_300)).toBe("set-2");
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
  ruled.requestEnd();
  await put(1, ruled.denyDatabase);
  expect(await ruled.ask(2, 9_300)).toBe("silence");
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
  expect(await ruled.ask(2, 9_400)).toBe("set-2");
  ruled.requestEnd();
  const putting = host.put(ruled.stateWith(ruled.denyDatabase));
  await expect.poll(() => isEnding).toBe(true);
  const { id } = await host.createEndpoint("10.64.0.9/16");
  const late = new Promise((resolve) => setTimeout(resolve, 5_000, "late"));
  expect(await Promise.race([host.join(id), late])).toHaveProperty("InterfaceName");
  host.switchPort.endConnections = endConnections;
  gate.open();
  expect(await putting).toMatchObject({ body: { isApplied: true } });
  expect(await ruled.ask(2, 9_400)).toBe("silence");
});
