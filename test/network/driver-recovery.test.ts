import { execFile } from "node:child_process";
import { readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/lib/ids.ts";
import { removeContainers } from "../support/docker/remove-containers.ts";
import {
  createContainer,
  createNetwork,
  type DriverHost,
  fetchFrom,
  readInterface,
  serveText,
  startDriverHost,
  type TestContainer,
} from "../support/network/driver-host.ts";
import { waitUntil } from "../support/wait-until.ts";
import { networkBasics } from "../support/network/host-network.ts";
import { noteTraces } from "../support/network/machine-traces.ts";

const run = promisify(execFile);
let host: DriverHost;
let nextVni = 6_000;
beforeAll(async () => {
  host = await startDriverHost();
});
afterAll(() => host.close());
afterEach(async () => {
  await removeContainers(host.docker);
  expect(await host.listLinks()).toEqual([]);
  expect(await host.listSwitchPorts()).toEqual([]);
  await host.docker.pruneNetworks();
});

async function start(options: TestContainer): Promise<Docker.Container> {
  const container = await createContainer(host.docker, options);
  await container.start();
  return container;
}

async function startPair(): Promise<{ server: Docker.Container; client: Docker.Container }> {
  const network = await createNetwork(host, { vni: nextVni++ });
  const server = await start({ network, address: "10.64.0.9", command: serveText("nine") });
  return { server, client: await start({ network, address: "10.64.0.10" }) };
}

const vsctl = (...args: string[]) =>
  host.ovs.ovs("ovs-vsctl", `--db=unix:${host.ovs.runFolder}/db.sock`, ...args);
const recordsFile = () => join(host.folder, "records.json");

describe("a starting driver", () => {
  it("removes links and ports without an endpoint, and no other interface", async () => {
    await host.endDriver("SIGKILL");
    const prefix = await readLinkPrefix();
    const foreign = `x${process.pid}`;
    noteTraces({ link: foreign });
    const names = ["aaaaaaaaaa", "bbbbbbbbbb"].map((id) => `${prefix}h-${id}`);
    for (const name of [...names, foreign])
      await run("ip", ["link", "add", name, "type", "veth", "peer", "name", `p${name.slice(1)}`]);
    for (const name of [...names.slice(1), foreign]) await vsctl("add-port", host.bridge, name);
    await host.startDriver();
    expect(await host.listLinks()).toEqual([]);
    expect(await host.listSwitchPorts()).toEqual([]);
    expect(await vsctl("list-ports", host.bridge)).toContain(foreign);
    await vsctl("del-port", host.bridge, foreign);
    await run("ip", ["link", "delete", foreign]);
  });

  it("adds ports that Open vSwitch has lost to running containers", async () => {
    const { client } = await startPair();
    await host.endDriver("SIGKILL");
    const ports = await host.listSwitchPorts();
    for (const port of ports) await vsctl("del-port", host.bridge, port);
    await host.startDriver();
    expect(await host.listSwitchPorts()).toEqual(ports);
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
  });

  it("removes the endpoint of a container that vanished without Docker", async () => {
    const { server } = await startPair();
    await host.endDriver("SIGKILL");
    const before = await host.listLinks();
    const { State } = await server.inspect();
    await run("nsenter", [`--net=/proc/${State.Pid}/ns/net`, "ip", "link", "delete", "eth0"]);
    expect(before).toHaveLength(2);
    await host.startDriver();
    expect(await host.listLinks()).toHaveLength(1);
    expect(await host.listSwitchPorts()).toHaveLength(1);
  });
});

describe("a driver without its state file", () => {
  it.each(["torn", "invalid", "missing"])(
    "rebuilds a %s one from the switch, and containers restart as before",
    async (fault) => {
      const { server, client } = await startPair();
      const before = await readInterface(server);
      const text = await readFile(recordsFile(), "utf8");
      await host.endDriver("SIGKILL");
      if (fault === "torn") await truncate(recordsFile(), Math.floor(text.length / 2));
      if (fault === "invalid") await writeFile(recordsFile(), text.replaceAll("10.64.0.9", "x"));
      if (fault === "missing") await run("rm", [recordsFile()]);
      await host.startDriver();
      expect(await host.status()).toMatchObject({ isReady: true, endpoints: 2, networks: 1 });
      expect(await readFile(recordsFile(), "utf8").then(JSON.parse)).toEqual(JSON.parse(text));
      expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
      await server.restart({ t: 1 });
      expect(await readInterface(server)).toEqual(before);
      expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
      if (fault === "missing") return;
      const setAside = await readFile(`${recordsFile()}.invalid`, "utf8");
      expect(setAside).not.toBe(text);
    },
  );

  it("rebuilds a network without containers from what a new container says", async () => {
    const network = await createNetwork(host, { vni: nextVni++ });
    await host.endDriver("SIGKILL");
    await run("rm", [recordsFile()]);
    await host.startDriver();
    const refused = await createContainer(host.docker, { network, address: "10.64.0.9" });
    await expect(refused.start()).rejects.toThrow(
      "The network driver has no record of this network, because its state file was lost.",
    );
    const driverOptions = {
      "berth.network": network.networkId,
      "berth.vni": String(network.vni),
      "berth.gateways": "10.64.0.1",
    };
    const container = await start({ network, address: "10.64.0.10", driverOptions });
    expect(await readInterface(container)).toMatchObject({
      addresses: ["10.64.0.10/16"],
      defaultRoute: "10.64.0.1",
    });
    expect(await host.status()).toMatchObject({ endpoints: 1, networks: 1 });
  });
});

describe("the driver's process", () => {
  it("ends in order at SIGTERM and leaves containers connected", async () => {
    const { client } = await startPair();
    const before = await host.listSwitchPorts();
    expect(await host.driver().end("SIGTERM")).toBe(0);
    expect(await host.listSwitchPorts()).toEqual(before);
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
    await host.startDriver();
  });

  it("refuses the folder of a running driver", async () => {
    await expect(host.startDriver()).rejects.toThrow("is in use by another process");
  });

  it("answers unknown methods with {}, and invalid calls with a sentence", async () => {
    expect(await host.call("NetworkDriver.ProgramExternalConnectivity", {})).toEqual({});
    expect(await host.call("Elsewhere.Unknown", "{")).toEqual({});
    expect(await host.call("Plugin.Activate", {})).toEqual({
      Implements: ["NetworkDriver", "IpamDriver"],
    });
    expect(await host.call("NetworkDriver.Join", "{")).toEqual({
      Err: "Docker sent a call whose body is not JSON.",
    });
    expect(await host.call("NetworkDriver.Join", { NetworkID: "x".repeat(64) })).toEqual({
      Err: "Docker sent an invalid call: `EndpointID`: Invalid input: expected string, received undefined.",
    });
    const large = { NetworkID: "a".repeat(2 ** 20) };
    expect(await host.call("NetworkDriver.CreateNetwork", large)).toEqual({
      Err: "The request is larger than 1048576 bytes.",
    });
  });

  it("stores a newer network state, applies it, and has it after kill -9", async () => {
    const remote = {
      mac: "0a:00:0a:41:00:09",
      addresses: ["10.65.0.9"],
      tunnelAddress: "192.0.2.7",
    };
    const network = {
      networkId: newId("net"),
      vni: 777,
      ...networkBasics,
      gateways: ["10.65.0.1"],
      remotePorts: [remote],
    };
    const state = { source: "agent", version: 7, tunnelAddress: "192.0.2.6", networks: [network] };
    const put = (body: unknown) => host.control("PUT", "/v1/network-state", body);
    const dump = () =>
      host.ovs.ovs("ovs-ofctl", "dump-flows", `unix:${host.ovs.runFolder}/${host.bridge}.mgmt`);
    expect(await put(state)).toEqual({
      status: 200,
      body: { version: 7, isApplied: true, isStored: true },
    });
    expect(await dump()).toContain("cookie=0x309");
    expect((await put({ ...state, version: 6 })).status).toBe(409);
    expect((await put({ ...state, networks: [network, network] })).status).toBe(422);
    expect(
      (await put({ ...state, version: 8, networks: [{ ...network, rules: [{}] }] })).status,
    ).toBe(422);
    expect((await put("{")).status).toBe(422);
    expect((await host.control("GET", "/v1/unknown")).status).toBe(404);
    await host.endDriver("SIGKILL");
    await host.startDriver();
    expect((await host.status()).networkStateVersion).toBe(7);
    expect(await dump()).toContain("cookie=0x309");
    await put({ ...state, version: 9, networks: [] });
    await waitUntil("the flows are gone", async () => !(await dump()).includes("cookie=0x309"));
  });
});

/** The prefix of this host's interfaces, which the driver's settings have. */
async function readLinkPrefix(): Promise<string> {
  return `t${host.plugin.slice("berth-".length, "berth-".length + 2)}`;
}
