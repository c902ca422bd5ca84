import type Docker from "dockerode";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
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
  tryFetch,
} from "../support/network/driver-host.ts";
import { waitUntil } from "../support/wait-until.ts";

let host: DriverHost;
let nextVni = 5_000;
beforeAll(async () => {
  host = await startDriverHost();
});
afterAll(() => host.close());
afterEach(async () => {
  await removeContainers(host.docker);
  expect(await host.listLinks()).toEqual([]);
  expect(await host.listSwitchPorts()).toEqual([]);
  expect(await host.status()).toMatchObject({ endpoints: 0, unknownInterfaces: [] });
  await host.docker.pruneNetworks();
  expect((await host.status()).networks).toBe(0);
});

const newNetwork = (options: Partial<Parameters<typeof createNetwork>[1]> = {}) =>
  createNetwork(host, { vni: nextVni++, ...options });

async function start(options: TestContainer): Promise<Docker.Container> {
  const container = await createContainer(host.docker, options);
  await container.start();
  return container;
}

/** A restart policy brings containers back some time after the daemon answers. */
async function waitUntilRuns(container: Docker.Container): Promise<void> {
  await waitUntil("the container runs", async () => (await container.inspect()).State.Running);
}

describe("a network of the driver", () => {
  it("gives containers their addresses, MAC addresses, MTU and route, and connects them", async () => {
    const network = await newNetwork();
    const server = await start({
      network,
      address: "10.64.0.9",
      mac: "0a:00:0a:40:00:09",
      command: serveText("nine"),
    });
    const client = await start({ network, address: "10.64.0.10" });
    expect(await readInterface(server)).toEqual({
      mac: "0a:00:0a:40:00:09",
      addresses: ["10.64.0.9/16"],
      mtu: "1450",
      defaultRoute: "10.64.0.1",
    });
    expect((await readInterface(client)).mac).toBe("0a:00:0a:40:00:0a");
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
    const { Id } = await host.docker.getNetwork(network.dockerNetwork).inspect();
    const [port] = (await host.listSwitchPorts()).filter((name) => name.length > 0);
    const ids = await host.ovs.ovs(
      "ovs-vsctl",
      `--db=unix:${host.ovs.runFolder}/db.sock`,
      "get",
      "Interface",
      port ?? "",
      "external_ids",
    );
    // ovs-vsctl quotes a value that begins with a digit.
    expect(ids.replaceAll('"', "")).toContain(`berth-docker-network=${Id}`);
    expect(ids).toContain("berth-set=set_01jd0000000000000000000000");
  });

  it("connects containers over IPv6 too", async () => {
    const network = await newNetwork({ subnet6: "fd00:64::/64", gateway6: "fd00:64::1" });
    const server = await start({
      network,
      address: "10.64.0.9",
      address6: "fd00:64::9",
      command: serveText("six"),
    });
    const client = await start({ network, address: "10.64.0.10", address6: "fd00:64::10" });
    expect((await readInterface(server)).addresses).toContain("fd00:64::9/64");
    expect(await fetchFrom(client, "fd00:64::9")).toBe("six");
  });

  it("is separate from a network with the same subnet and the same addresses", async () => {
    const networks = [await newNetwork(), await newNetwork()];
    const clients: Docker.Container[] = [];
    for (const network of networks) {
      const command = serveText(network.networkId);
      await start({ network, address: "10.64.0.9", command });
      clients.push(await start({ network, address: "10.64.0.10" }));
    }
    for (const [index, network] of networks.entries()) {
      const client = clients[index];
      if (client) expect(await fetchFrom(client, "10.64.0.9")).toBe(network.networkId);
    }
    const [first] = networks;
    const [client] = clients;
    if (!first || !client) throw new Error("two networks exist");
    // The address exists only in the other network.
    await start({ network: first, address: "10.64.0.77", command: serveText("far") });
    expect(await fetchFrom(client, "10.64.0.77")).toBe("far");
    expect(await tryFetch(clients.at(1) ?? client, "10.64.0.77")).toBeUndefined();
  });
});

describe("a container returns with its address", () => {
  it("after docker restart, even while the driver is killed and starts again", async () => {
    const network = await newNetwork();
    const server = await start({ network, address: "10.64.0.9", command: serveText("nine") });
    const client = await start({ network, address: "10.64.0.10" });
    await server.restart({ t: 1 });
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
    const before = await readInterface(server);
    await host.endDriver("SIGKILL");
    const restarting = server.restart({ t: 1 });
    await host.startDriver();
    await restarting;
    expect(await readInterface(server)).toEqual(before);
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
  });

  it("after a restart of the daemon and the driver, in order or by kill -9", async () => {
    const network = await newNetwork();
    const options = { network, restart: "always" } as const;
    const server = await start({
      ...options,
      address: "10.64.0.9",
      command: serveText("nine"),
    });
    const client = await start({ ...options, address: "10.64.0.10" });
    const before = await readInterface(server);
    for (const kills of [false, true]) {
      if (kills) {
        await host.privateDocker.kill();
        await host.endDriver("SIGKILL");
        await host.startDriver();
        await host.privateDocker.start();
      } else {
        await host.endDriver("SIGTERM");
        await host.startDriver();
        await host.privateDocker.restart("docker");
      }
      await waitUntilRuns(server);
      await waitUntilRuns(client);
      expect(await readInterface(server)).toEqual(before);
      expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
      expect((await host.status()).endpoints).toBe(2);
    }
  });

  it("after Open vSwitch lost its flows, within seconds and without a restart", async () => {
    const network = await newNetwork();
    await start({ network, address: "10.64.0.9", command: serveText("nine") });
    const client = await start({ network, address: "10.64.0.10" });
    await host.ovs.killSwitch();
    await host.ovs.startSwitch();
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
    await waitUntil("the driver is ready", async () => (await host.status()).isReady);
  });
});

describe("Docker shows a clear sentence", () => {
  const refusal = async (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => "",
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );

  it("for a network without Berth's options, or without a subnet", async () => {
    const { docker, plugin } = host;
    const create = (options: object) =>
      refusal(docker.createNetwork({ Name: "no", Driver: plugin, ...options }));
    const Config = [{ Subnet: "10.64.0.0/16", Gateway: "10.64.0.1" }];
    expect(await create({ IPAM: { Driver: plugin, Config } })).toContain(
      "The options berth.network and berth.vni are missing.",
    );
    expect(await create({ IPAM: { Driver: plugin } })).toContain(
      "The network needs a subnet. Repeat with --subnet and --gateway.",
    );
  });

  it("for a container without an address, or with that of the gateway or of another one", async () => {
    const network = await newNetwork();
    await start({ network, address: "10.64.0.9" });
    const unnamed = await host.docker.createContainer({
      Image: "berth-test/busybox:1",
      HostConfig: { NetworkMode: network.dockerNetwork },
    });
    expect(await refusal(unnamed.start())).toContain("The driver chooses no address.");
    expect(await refusal(start({ network, address: "10.64.0.1" }))).toContain(
      "10.64.0.1 is the gateway of its network. Choose another address.",
    );
    expect(await refusal(start({ network, address: "10.64.0.9" }))).toContain(
      "belongs to a running container of set_01jd0000000000000000000000 in the same network.",
    );
  });

  it("while Open vSwitch is down, and then leaves no link", async () => {
    const network = await newNetwork();
    await host.ovs.killDatabase();
    expect(await refusal(start({ network, address: "10.64.0.9" }))).toContain("Open vSwitch");
    expect(await host.listLinks()).toEqual([]);
    await waitUntil("the driver is not ready", async () => !(await host.status()).isReady);
    await host.ovs.startDatabase();
    await waitUntil("the driver is ready", async () => (await host.status()).isReady);
  });
});
