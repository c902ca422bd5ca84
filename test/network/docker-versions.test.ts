import { afterEach, expect, it } from "vitest";
import {
  createContainer,
  createNetwork,
  type DriverHost,
  fetchFrom,
  readInterface,
  serveText,
  startDriverHost,
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
    // No call of this version was refused.
    expect(
      host
        .driver()
        .logLines()
        .filter(({ level }) => level === "warn"),
    ).toEqual([]);
  },
);
