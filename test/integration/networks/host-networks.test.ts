import { sql } from "drizzle-orm";
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import type { HostNetworks } from "../../../src/contracts/agent-protocol/host-networks.ts";
import { networkStateSchema } from "../../../src/contracts/network-driver/network-state.ts";
import { noteCapabilities } from "../../../src/control/hosts/note-capabilities.ts";
import { readHostNetworks } from "../../../src/control/networks/read-host-networks.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets } from "../../support/fleet/live-sets.ts";
import { listAddresses, setFeatures } from "../../support/fleet/network-hosts.ts";

import { waitUntil } from "../../support/wait-until.ts";

const emptyCapabilities = {
  docker: null,
  setsMax: null,
  selfTest: null,
  otherHostVolumes: null,
};
const start = fleetPerTest();
const { signal } = new AbortController();

/** Enrolls a host with networks whose sets fill it one by one. */
async function enroll(f: FleetContext, name: string, tunnelAddress: string): Promise<string> {
  const hostId = await f.enroll(name, { allocatable: { ...smallHost, cpuMillis: 1_000 } });
  await setFeatures(f, hostId, ["networks"]);
  await f.ctx.db.execute(
    sql`update hosts set capabilities = capabilities || ${JSON.stringify({ tunnelAddress })}::jsonb where id = ${hostId}`,
  );
  return hostId;
}

const read = (f: FleetContext, hostId: string, version?: string, waitMs = 0) =>
  readHostNetworks(f.ctx, hostId, { version, waitMs }, signal);

test("a host learns the ports of other hosts in the networks of its sets", async () => {
  const f = await start();
  const ids = new Map<string | null | undefined, string>();
  for (const [place, name] of ["one", "two", "idle"].entries())
    ids.set(name, await enroll(f, name, `192.0.2.${place + 1}`));
  const idOf = (name: string | null | undefined) => ids.get(name) ?? "";
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  const [first, second] = await listLiveSets(f);
  const addresses = await listAddresses(f);
  const addressOf = (setId: string | undefined) =>
    addresses.find((address) => address.setId === setId);
  expect(first?.host).not.toBe(second?.host);
  for (const [own, other] of [
    [first, second],
    [second, first],
  ]) {
    const { networks, version } = await read(f, idOf(own?.host));
    const port = addressOf(other?.id);
    expect(networks).toMatchObject([
      {
        vni: 4_097,
        gateways: ["10.64.0.1"],
        remotePorts: [{ mac: port?.mac, addresses: [port?.address] }],
      },
    ]);
    networkStateSchema.parse({ source: "agent", version: 1, tunnelAddress: null, networks });
    expect(await read(f, idOf(own?.host), version)).toEqual({ version, networks: null });
  }
  const used = [first?.host, second?.host];
  const idle = [...ids.keys()].find((name) => !used.includes(name));
  expect((await read(f, idOf(idle))).networks).toEqual([]);
});

test("a placement wakes the hosts of its networks, which then learn its port", async () => {
  const f = await start();
  const one = await enroll(f, "one", "192.0.2.1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const { version, networks } = await read(f, one);
  expect(networks).toMatchObject([{ remotePorts: [] }]);
  const signals: string[] = [];
  f.signals.length = 0;
  const woken = readHostNetworks(
    {
      ...f.ctx,
      signals: {
        ...f.ctx.signals,
        waitFor: async (channel) => {
          signals.push(channel);
          // As Redis: the signal arrives after the commit.
          while (!f.signals.includes(channel)) await pause(5);
          return true;
        },
      },
    },
    one,
    { version, waitMs: 10_000 },
    signal,
  );
  await waitUntil("the host waits", () => signals.length === 2 || undefined);
  await f.ctx.db.execute(sql`update hosts set cordoned = true where id = ${one}`);
  await enroll(f, "two", "192.0.2.2");
  await createService(f.ctx, f.tenantId, serviceBody("next"));
  await f.placer.placeSets();
  const answer: HostNetworks = await woken;
  expect(signals).toContain(`network:${networks?.[0]?.networkId}`);
  expect(answer.networks).toMatchObject([
    { remotePorts: [{ addresses: ["10.64.0.3"], tunnelAddress: "192.0.2.2" }] },
  ]);
});

test("a host whose driver fails stays reachable, and its new address wakes the others", async () => {
  const f = await start();
  const [one, two] = [await enroll(f, "one", "192.0.2.1"), await enroll(f, "two", "192.0.2.2")];
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 2 }));
  await f.placer.placeSets();
  const remoteAddresses = async (hostId: string) =>
    (await read(f, hostId)).networks?.[0]?.remotePorts.map((port) => port.tunnelAddress);
  const report = async (version: string, features: string[], tunnelAddress: string | null) => {
    const capabilities = { ...emptyCapabilities, features, tunnelAddress };
    const caller = { hostId: two, capabilitiesVersion: null };
    f.signals.length = 0;
    await noteCapabilities(f.ctx, caller, { version, capabilities });
    return f.signals.filter((channel) => channel.startsWith("network:"));
  };
  expect(await report("a", [], null)).toEqual([]);
  expect(await remoteAddresses(one)).toEqual(["192.0.2.2"]);
  expect(await report("b", ["networks"], "192.0.2.3")).toHaveLength(1);
  expect(await remoteAddresses(one)).toEqual(["192.0.2.3"]);
});

test("a wait without a signal ends without another read", async () => {
  const f = await start();
  const hostId = await enroll(f, "one", "192.0.2.1");
  const { version } = await read(f, hostId);
  const signals = { ...f.ctx.signals, waitFor: async () => false };
  const query = { version, waitMs: 60_000 };
  expect(await readHostNetworks({ ...f.ctx, signals }, hostId, query, signal)).toEqual({
    version,
    networks: null,
  });
});
