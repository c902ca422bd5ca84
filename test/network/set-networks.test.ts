import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { createSetEngine, type SetEnginePorts } from "../../src/agent/engine/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import type { Attachment } from "../../src/contracts/agent-protocol/attachment.ts";
import { createNetworkDriverClient } from "../../src/host-adapters/network-driver-client/network-driver-client.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeEnginePorts } from "../../src/main/compose/set-engine.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import {
  type DriverHost,
  fetchFrom,
  readInterface,
  serveText,
  shell,
  startDriverHost,
} from "../support/network/driver-host.ts";
import { noteTraces } from "../support/network/machine-traces.ts";

const { signal } = new AbortController();
const hostId = newId("host");
let host: DriverHost;
let ports: SetEnginePorts;
let engine: SetPort;
let nextVni = 6_000;

beforeAll(async () => {
  host = await startDriverHost();
});
afterAll(() => host.close());
beforeEach(() => {
  ({ ports, engine } = openEngine());
});
afterEach(async () => {
  await removeHost(host.docker, hostId);
  await host.docker.pruneNetworks();
  expect(await host.status()).toMatchObject({ endpoints: 0, networks: 0 });
});

/** A new process of the agent. */
function openEngine(): { ports: SetEnginePorts; engine: SetPort } {
  const driver = createNetworkDriverClient(host.controlSocket);
  const opened = composeEnginePorts({
    docker: host.docker,
    hostId,
    log: silentLog,
    networkDriver: { driver, plugin: host.plugin },
  });
  return { ports: opened, engine: createSetEngine(opened) };
}

const endpointSchema = z.object({ DriverOpts: z.record(z.string(), z.string()) });

const newNetwork = () => ({ networkId: newId("net"), vni: nextVni++ });

function attach(
  network: Pick<Attachment, "networkId" | "vni">,
  last: number,
  changes: Partial<Attachment> = {},
): Attachment {
  return {
    ...network,
    interface: "eth0",
    mac: `0a:00:0a:40:00:${last.toString(16).padStart(2, "0")}`,
    addresses: [`10.64.0.${last}/16`],
    gateways: ["10.64.0.1"],
    ...changes,
  };
}

/** A set of one container that answers with the text. */
function serving(text: string, attachments: Attachment[] | undefined): LocalSetSpec {
  const options = { command: ["/bin/sh", "-c", serveText(text)] };
  return { ...localSet({ options }), attachments };
}

async function start(set: LocalSetSpec): Promise<void> {
  if (set.attachments) await host.addNetworks(...set.attachments);
  expect(await engine.prepare(set, signal)).toEqual([]);
  await engine.start(set, ["app"], signal);
}

const containerOf = (set: LocalSetSpec, name = "infra") =>
  host.docker.getContainer(`berth-${set.setId}-${name}`);

async function dockerNetworks(): Promise<string[]> {
  const networks = await host.docker.listNetworks();
  return networks.map(({ Name }) => Name).filter((name) => name.startsWith("berth-net_"));
}

describe("a set with attachments", () => {
  it("has its addresses and MAC address, and reaches another set of the network", async () => {
    const network = newNetwork();
    const nine = serving("nine", [attach(network, 9)]);
    const ten = serving("ten", [attach(network, 10)]);
    await Promise.all([start(nine), start(ten)]);
    expect(await readInterface(containerOf(nine, "app"))).toEqual({
      mac: "0a:00:0a:40:00:09",
      addresses: ["10.64.0.9/16"],
      mtu: "1450",
      defaultRoute: "10.64.0.1",
    });
    expect(await fetchFrom(containerOf(ten), "10.64.0.9")).toBe("nine");
    expect(await fetchFrom(containerOf(nine), "10.64.0.10")).toBe("ten");
    expect(await engine.observeSet(nine.setId, signal)).toMatchObject({ address: "10.64.0.9" });
    expect(await dockerNetworks()).toEqual([`berth-${network.networkId}`]);
    await engine.remove(nine.setId, signal);
    expect(await dockerNetworks()).toEqual([`berth-${network.networkId}`]);
    await engine.remove(ten.setId, signal);
    expect(await dockerNetworks()).toEqual([]);
  });

  it("has its published ports in the network of its IPv4 default route only", async () => {
    // The first network of the template has the higher id, and the other one has both families.
    const [one, two] = [newNetwork(), newNetwork()];
    const [other, first] = one.networkId < two.networkId ? [one, two] : [two, one];
    const both = attach(other, 7, {
      interface: "eth1",
      mac: "0a:00:0a:41:00:07",
      addresses: ["10.65.0.7/24", "fd00:65::7/64"],
      gateways: ["10.65.0.1", "fd00:65::1"],
    });
    const hostPorts = [{ protocol: "tcp" as const, port: 8_080, hostPort: 20_001 }];
    const set = { ...serving("published", [attach(first, 9), both]), hostPorts };
    await start(set);
    const { NetworkSettings, HostConfig } = await containerOf(set).inspect();
    const optionsOf = (networkId: string): Record<string, string> => {
      // The client's type lacks the options.
      const found: object | undefined = NetworkSettings.Networks[`berth-${networkId}`];
      return endpointSchema.parse(found).DriverOpts;
    };
    expect(optionsOf(first.networkId)["berth.ports"]).toBe("tcp/20001=8080");
    expect(optionsOf(other.networkId)["berth.ports"]).toBeUndefined();
    expect(HostConfig.PortBindings ?? {}).toEqual({});
    expect(await readInterface(containerOf(set))).toMatchObject({ defaultRoute: "10.64.0.1" });
    await engine.remove(set.setId, signal);
  });

  it("has two networks, even if the agent was killed between their connections", async () => {
    const [first, second] = [newNetwork(), newNetwork()];
    const other = attach(second, 7, {
      interface: "eth1",
      mac: "0a:00:0a:41:00:07",
      addresses: ["10.65.0.7/24", "fd00:65::7/64"],
      gateways: ["10.65.0.1", "fd00:65::1"],
    });
    const set = serving("both", [attach(first, 9), other]);
    const peer = serving("peer", [
      {
        ...other,
        interface: "eth0",
        addresses: ["10.65.0.8/24", "fd00:65::8/64"],
        mac: "0a:00:0a:41:00:08",
      },
    ]);
    const crashed = createSetEngine({
      ...ports,
      containers: {
        ...ports.containers,
        connectInfra: () => Promise.reject(new Error("the agent is killed")),
      },
    });
    await expect(crashed.prepare(set, signal)).rejects.toThrow("killed");
    expect((await containerOf(set).inspect()).State.Status).toBe("created");
    await Promise.all([start(set), start(peer)]);
    const text = await shell(containerOf(set, "app"), "ip addr");
    expect(text).toContain("inet 10.64.0.9/16");
    // Docker chooses the names of interfaces.
    expect(text).toContain("inet 10.65.0.7/24");
    const routes = await shell(containerOf(set, "app"), "ip route; ip -6 route");
    // No path leads to external IPv6 addresses.
    expect(routes.match(/default via \S+/g)).toEqual(["default via 10.64.0.1"]);
    expect(await fetchFrom(containerOf(peer), "10.65.0.7")).toBe("both");
    expect(await fetchFrom(containerOf(set), "10.65.0.8")).toBe("peer");
    expect(await fetchFrom(containerOf(set), "fd00:65::8")).toBe("peer");
    expect((await engine.observeSet(set.setId, signal))?.address).toBe("10.64.0.9");
    for (const { setId } of [set, peer]) await engine.remove(setId, signal);
    expect(await dockerNetworks()).toEqual([]);
  });

  it("is probed over TCP and HTTP, and a closed port is unhealthy", async () => {
    const checks = [
      [{ http: { port: 80, path: "/" } }, { healthy: true }],
      [{ tcp: { port: 80 } }, { healthy: true }],
      [{ http: { port: 80, path: "/none" } }, { detail: expect.stringContaining("404") }],
      [{ tcp: { port: 81 } }, { detail: expect.stringContaining("ECONNREFUSED") }],
      [{ http: { port: 81, path: "/" } }, { detail: expect.stringContaining("ECONNREFUSED") }],
    ] as const;
    const command = ["/bin/sh", "-c", serveText("nine")];
    const network = newNetwork();
    const set = serving("nine", [attach(network, 9)]);
    await start(set);
    await fetchFrom(containerOf(set), "10.64.0.9");
    const container = (await engine.observeSet(set.setId, signal))?.containers[0];
    if (!container) throw new Error("the set has a container");
    for (const [health, result] of checks) {
      const { template } = localSet({ options: { command, health } });
      const target = { container, address: undefined };
      expect(await engine.probe({ ...set, template }, target, signal)).toMatchObject(result);
    }
    await engine.remove(set.setId, signal);
  });

  it("gets new containers if its attachment changes, and leaves the earlier network", async () => {
    const [before, after] = [newNetwork(), newNetwork()];
    const set = serving("set", [attach(before, 9)]);
    await start(set);
    const { Id } = await containerOf(set).inspect();
    expect(await engine.prepare({ ...set }, signal)).toEqual([]);
    expect((await containerOf(set).inspect()).Id).toBe(Id);
    await start({ ...set, attachments: [attach(after, 12)] });
    expect((await readInterface(containerOf(set))).addresses).toEqual(["10.64.0.12/16"]);
    expect(await dockerNetworks()).toEqual([`berth-${after.networkId}`]);
    await engine.remove(set.setId, signal);
  });

  it("returns with its address when Docker restarts its containers without the agent", async () => {
    const set = serving("set", [attach(newNetwork(), 9)]);
    await start(set);
    const before = await readInterface(containerOf(set));
    await containerOf(set).restart({ t: 1 });
    expect(await readInterface(containerOf(set))).toEqual(before);
    await engine.remove(set.setId, signal);
  });
});

describe("the Docker networks of sets", () => {
  it("survive the removal of one set while another one is prepared, ten times", async () => {
    const network = newNetwork();
    for (let round = 0; round < 10; round += 1) {
      const leaving = serving("leaving", [attach(network, 20 + 2 * round)]);
      const coming = serving("coming", [attach(network, 21 + 2 * round)]);
      await engine.prepare(leaving, signal);
      const [, failures] = await Promise.all([
        engine.remove(leaving.setId, signal),
        engine.prepare(coming, signal),
      ]);
      expect(failures).toEqual([]);
      await engine.remove(coming.setId, signal);
    }
    expect(await dockerNetworks()).toEqual([]);
  });

  it("are deleted by a later process of the agent, which keeps those of stopped sets", async () => {
    const [removed, stopped] = [
      serving("removed", [attach(newNetwork(), 9)]),
      serving("stopped", [attach(newNetwork(), 10)]),
    ];
    await engine.prepare(removed, signal);
    await engine.prepare(stopped, signal);
    await engine.stopAll(stopped.setId, signal);
    const later = openEngine().engine;
    await later.remove(removed.setId, signal);
    expect(await dockerNetworks()).toEqual([`berth-${stopped.attachments?.[0]?.networkId}`]);
    await later.remove(stopped.setId, signal);
    expect(await dockerNetworks()).toEqual([]);
  });

  it("are replaced if their options differ and no container uses them", async () => {
    const network = newNetwork();
    const first = serving("first", [attach(network, 9, { mtu: 1_400 })]);
    const second = serving("second", [attach(network, 10, { mtu: 1_450 })]);
    await engine.prepare(first, signal);
    await expect(engine.prepare(second, signal)).rejects.toMatchObject({
      code: "network-conflict",
      message: expect.stringContaining("berth.mtu=1400 and not 1450"),
    });
    await removeHost(host.docker, hostId);
    expect(await engine.prepare(second, signal)).toEqual([]);
    await engine.remove(second.setId, signal);
  });

  it("are an error that names the difference if they are foreign", async () => {
    const network = newNetwork();
    const name = `berth-${network.networkId}`;
    const { id } = await host.docker.createNetwork({ Name: name, Driver: "bridge" });
    noteTraces({ link: `br-${id.slice(0, 12)}` });
    await expect(
      engine.prepare(serving("set", [attach(network, 9)]), signal),
    ).rejects.toMatchObject({ message: expect.stringContaining("the driver bridge and not") });
    expect(await dockerNetworks()).toEqual([name]);
  });

  it("stay while the driver is dead, and a set without attachments needs no driver", async () => {
    const set = serving("set", [attach(newNetwork(), 9)]);
    await start(set);
    await host.endDriver("SIGKILL");
    const bridged = serving("bridged", undefined);
    await start(bridged);
    expect((await containerOf(bridged).inspect()).HostConfig.NetworkMode).toBe("bridge");
    await engine.remove(bridged.setId, signal);
    await host.startDriver();
    await engine.remove(set.setId, signal);
    expect(await dockerNetworks()).toEqual([]);
  });
});
