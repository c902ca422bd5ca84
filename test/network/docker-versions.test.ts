import { afterEach, expect, it } from "vitest";
import { QUERY_SUBNET, toQueryAddress } from "../../src/contracts/network-driver/query-address.ts";
import {
  createContainer,
  createNetwork,
  type DriverHost,
  fetchFrom,
  readInterface,
  serveText,
  shell,
  startDriverHost,
  tryFetch,
} from "../support/network/driver-host.ts";
import { waitUntil } from "../support/wait-until.ts";

let host: DriverHost | undefined;
afterEach(() => host?.close());

it.each(["26", "28"] as const)(
  "Docker %s connects containers, and they return after restarts of container and daemon",
  async (version) => {
    host = await startDriverHost(version);
    const { docker, privateDocker } = host;
    expect((await docker.version()).Version).toMatch(new RegExp(`^${version}\\.`));
    const subnets = { subnet6: "fd00:64::/64", gateway6: "fd00:64::1" };
    const network = await createNetwork(host, { vni: 4097, ...subnets });
    const server = await createContainer(docker, {
      network,
      address: "10.64.0.9",
      address6: "fd00:64::9",
      command: serveText("nine"),
      restart: "always",
    });
    const client = await createContainer(docker, {
      network,
      address: "10.64.0.10",
      address6: "fd00:64::10",
      restart: "always",
    });
    await server.start();
    await client.start();
    const before = await readInterface(server);
    expect(before).toMatchObject({ mac: "0a:00:0a:40:00:09", defaultRoute: "10.64.0.1" });
    expect(before.addresses.toSorted()).toEqual(["10.64.0.9/16", "fd00:64::9/64"]);
    expect(await fetchFrom(client, "fd00:64::9")).toBe("nine");
    await server.restart({ t: 1 });
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
    await privateDocker.kill();
    await privateDocker.start();
    for (const container of [server, client])
      await waitUntil("it runs", async () => (await container.inspect()).State.Running);
    expect(await readInterface(server)).toEqual(before);
    expect(await fetchFrom(client, "10.64.0.9")).toBe("nine");
    await checkDefaultRoutes(host);
    await checkQueryAddresses(host);
    // No call of this version was refused.
    expect(
      host
        .driver()
        .logLines()
        .filter(({ level }) => level === "warn"),
    ).toEqual([]);
  },
);

/**
 * Docker chooses an interface with a gateway by the names of the networks, among other things. So
 * each order of two networks is tried.
 */
async function checkDefaultRoutes(host: DriverHost): Promise<void> {
  const { docker } = host;
  const subnets = [
    { network: await createNetwork(host, { vni: 4098, ...addressesOf(66) }), octet: 66 },
    { network: await createNetwork(host, { vni: 4099, ...addressesOf(67) }), octet: 67 },
  ] as const;
  for (const [position, [first, second]] of [
    [subnets[0], subnets[1]] as const,
    [subnets[1], subnets[0]] as const,
  ].entries()) {
    const last = 20 + position;
    const container = await createContainer(docker, {
      network: first.network,
      address: `10.${first.octet}.0.${last}`,
      address6: `fd00:${first.octet}::${last}`,
      restart: "always",
      driverOptions: { "berth.default-routes": "4,6" },
    });
    await docker.getNetwork(second.network.dockerNetwork).connect({
      Container: container.id,
      EndpointConfig: {
        IPAMConfig: {
          IPv4Address: `10.${second.octet}.0.${last}`,
          IPv6Address: `fd00:${second.octet}::${last}`,
        },
        DriverOpts: { "berth.default-routes": "" },
      },
    });
    await container.start();
    const expectRoutes = async (): Promise<void> => {
      const routes = await shell(container, "ip route; ip -6 route");
      expect(routes.match(/default via \S+/g)).toEqual([`default via 10.${first.octet}.0.1`]);
      const addresses = await shell(container, "ip addr");
      expect(addresses).toContain(`10.${second.octet}.0.${last}/16`);
      expect(addresses).toContain(`fd00:${second.octet}::${last}/64`);
    };
    await expectRoutes();
    await container.restart({ t: 1 });
    await expectRoutes();
  }
}

/** Each release accepts the reserved subnet for a network that has only an IPv6 subnet. */
async function checkQueryAddresses(host: DriverHost): Promise<void> {
  const query = { subnet: QUERY_SUBNET, gateway: toQueryAddress("fd00:6::1") };
  const subnets = { ...query, subnet6: "fd00:6::/64", gateway6: "fd00:6::1" };
  const network = await createNetwork(host, { vni: 4100, ...subnets });
  const run = async (address6: string, command?: string) => {
    const options = { network, address: toQueryAddress(address6), address6 };
    const given = command === undefined ? {} : { command };
    const container = await createContainer(host.docker, { ...options, ...given });
    await container.start();
    return container;
  };
  const server = await run("fd00:6::9", serveText("six"));
  const client = await run("fd00:6::10");
  expect(await fetchFrom(client, "fd00:6::9")).toBe("six");
  expect(await tryFetch(client, toQueryAddress("fd00:6::9"))).toBeUndefined();
  expect(await readInterface(server)).toMatchObject({ mac: "0a:06:00:00:00:09", defaultRoute: "" });
}

function addressesOf(octet: number) {
  return {
    subnet: `10.${octet}.0.0/16`,
    gateway: `10.${octet}.0.1`,
    subnet6: `fd00:${octet}::/64`,
    gateway6: `fd00:${octet}::1`,
  };
}
