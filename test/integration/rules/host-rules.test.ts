import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { hostNetworksSchema } from "../../../src/contracts/agent-protocol/host-networks.ts";
import { applyNetworkChanges } from "../../../src/contracts/agent-protocol/network-changes.ts";
import { createRulesBody } from "../../../src/contracts/api/rules.ts";
import { RULES_PER_NETWORK_MAX } from "../../../src/contracts/common/limits.ts";
import { networkStateSchema } from "../../../src/contracts/network-driver/network-state.ts";
import type { SharedHostNetworks } from "../../../src/control/networks/host-networks.ts";
import { NetworkFeeds } from "../../../src/control/networks/network-feeds.ts";
import { createNetworkReader } from "../../../src/control/networks/read-fleet-network.ts";
import { readHostNetworks } from "../../../src/control/networks/read-host-networks.ts";
import { writeHostNetworks } from "../../../src/control/networks/write-host-networks.ts";
import { createRules } from "../../../src/control/rules/create-rules.ts";
import { deleteRule } from "../../../src/control/rules/delete-rule.ts";
import { patchRule } from "../../../src/control/rules/patch-rule.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { findFleetNetwork } from "../../../src/db/queries/networks/host-networks.ts";
import { createLocalSignals } from "../../support/fakes/local-signals.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obeyOrders } from "../../support/fleet/live-sets.ts";
import { enrollNetworked } from "../../support/fleet/network-hosts.ts";
import { waitUntil } from "../../support/wait-until.ts";

const start = fleetPerTest();
const { signal } = new AbortController();
const HOSTS = 20;

/** Hosts that have a set of the service web each, and that wait as agents do. */
async function startHosts(count: number) {
  const f = await start();
  const signals = createLocalSignals();
  f.ctx.signals = signals;
  f.placer = createPlacer(f.ctx);
  const allocatable = { ...smallHost, cpuMillis: 1_000 };
  const hostIds: string[] = [];
  for (let place = 1; place <= count; place++)
    hostIds.push(await enrollNetworked(f, `h${place}`, { allocatable }));
  await f.ctx.db.execute(
    sql`update hosts set capabilities = capabilities || '{"tunnelAddress": "192.0.2.1"}'`,
  );
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: count }));
  expect(await f.placer.placeSets()).toMatchObject({ placed: count });
  const feeds = new NetworkFeeds(f.ctx);
  /** The versions that each host sends. Undefined for agents of earlier releases. */
  let versionsOf: ((answer: SharedHostNetworks | undefined) => string[]) | undefined;
  const poll = (hostId: string, before?: SharedHostNetworks, waitMs = 0) => {
    const networkVersions = versionsOf?.(before);
    const query = { version: before?.version, networkVersions, waitMs };
    return readHostNetworks(f.ctx, feeds, hostId, query, signal);
  };
  const pollAll = () => Promise.all(hostIds.map((hostId) => poll(hostId)));
  const takeChanges = (): void => {
    versionsOf = (answer) => answer?.changes?.map(({ version }) => version) ?? [];
  };
  /** Runs a change while all hosts wait, and returns their answers and the time of the last. */
  const change = async (run: () => Promise<unknown>) => {
    const before = await pollAll();
    const woken = hostIds.map((id, place) => poll(id, before[place], 20_000));
    await waitUntil(
      "the hosts wait",
      () => signals.isAwaited(`host:${hostIds.at(-1)}`) || undefined,
    );
    await run();
    const startedAtMs = performance.now();
    const answers = await Promise.all(woken);
    return { before, answers, elapsedMs: performance.now() - startedAtMs };
  };
  return { f, hostIds, change, pollAll, takeChanges };
}

const add = (f: FleetContext, rules: object[], more: object = {}) =>
  createRules(f.ctx, f.tenantId, createRulesBody.parse({ rules, ...more }));
const denyAll = { network: "default", direction: "ingress", action: "deny", peer: { any: true } };

test("a change of rules reaches all waiting hosts of the network within two seconds", async () => {
  const { f, change } = await startHosts(HOSTS);
  const created = await change(() =>
    add(f, [{ ...denyAll, name: "closed", service: "web", protocol: "tcp", ports: [80] }]),
  );
  for (const { networks } of created.answers) {
    networkStateSchema.parse({ source: "a", version: 1, tunnelAddress: null, networks });
    expect(networks).toMatchObject([
      {
        rules: [
          { name: "closed", action: "deny", serviceId: networks?.[0]?.services[0]?.serviceId },
        ],
        endConnectionsCount: 0,
      },
    ]);
  }
  const changed = await change(() =>
    patchRule(f.ctx, f.tenantId, "closed", 1, { priority: 7, endConnections: true }),
  );
  for (const { networks } of changed.answers)
    expect(networks).toMatchObject([{ rules: [{ priority: 7 }], endConnectionsCount: 1 }]);
  const deletion = { generation: undefined, endsConnections: false };
  const deleted = await change(() => deleteRule(f.ctx, f.tenantId, "closed", deletion));
  for (const { networks } of deleted.answers)
    expect(networks).toMatchObject([{ rules: [], endConnectionsCount: 1 }]);
  for (const { elapsedMs } of [created, changed, deleted]) expect(elapsedMs).toBeLessThan(2_000);
});

/** Creates all rules that a network may have but one. */
async function addManyRules(f: FleetContext): Promise<void> {
  for (let first = 1; first < RULES_PER_NETWORK_MAX; first += 500) {
    const count = Math.min(500, RULES_PER_NETWORK_MAX - first);
    const rules = Array.from({ length: count }, (_, place) => ({
      ...denyAll,
      name: `r-${first + place}`,
      protocol: "tcp",
      ports: [first + place],
    }));
    await add(f, rules);
  }
}

/** The networks that the agent of a host has after an answer. */
function apply(before: SharedHostNetworks | undefined, answer: SharedHostNetworks | undefined) {
  const read = (one: SharedHostNetworks | undefined) =>
    hostNetworksSchema.parse(JSON.parse(writeHostNetworks(one ?? { version: "", networks: [] })));
  const { networks, changes } = read(before);
  const versioned = applyNetworkChanges([], { networks: networks ?? [], changes: changes ?? [] });
  const next = read(answer);
  return applyNetworkChanges(versioned ?? [], {
    networks: next.networks ?? [],
    changes: next.changes ?? [],
  });
}

test("a change beside 10,000 rules sends each host that change only", async () => {
  const { f, hostIds, change, pollAll, takeChanges } = await startHosts(HOSTS);
  await addManyRules(f);
  takeChanges();
  const added = await change(() => add(f, [{ ...denyAll, name: "last" }]));
  const ready = await change(() => obeyOrders(f, hostIds[0] ?? ""));
  const removed = await change(async () => {
    const deletion = { generation: undefined, endsConnections: false };
    await deleteRule(f.ctx, f.tenantId, "last", deletion);
  });
  for (const { before, answers } of [added, ready, removed]) {
    for (const [place, answer] of answers.entries()) {
      expect(writeHostNetworks(answer).length).toBeLessThan(1_500);
      expect(answer.changes).toMatchObject([{ from: before[place]?.changes?.[0]?.version }]);
    }
    const [applied] = apply(before[0], answers[0]) ?? [];
    expect(applied?.version).toBe(answers[0]?.changes?.[0]?.version);
  }
  const [applied] = apply(removed.before[0], removed.answers[0]) ?? [];
  const [whole] = (await pollAll())[0]?.networks ?? [];
  const inOrder = (ports = whole?.remotePorts) =>
    ports?.toSorted((a, b) => a.mac.localeCompare(b.mac));
  expect(whole?.remotePorts).toHaveLength(HOSTS - 1);
  expect({ ...applied?.network, remotePorts: inOrder(applied?.network.remotePorts) }).toEqual({
    ...whole,
    remotePorts: inOrder(),
  });
}, 60_000);

test("an agent of an earlier release gets 10,000 rules whole", async () => {
  const { f, change } = await startHosts(1);
  await addManyRules(f);
  const { answers } = await change(() => add(f, [{ ...denyAll, name: "last" }]));
  expect(answers).toMatchObject([{ networks: [{ name: "default" }] }]);
  expect(answers[0]?.networks?.[0]?.rules).toHaveLength(RULES_PER_NETWORK_MAX);
  expect(answers[0]?.changes).toBeUndefined();
}, 60_000);

test("a network is read without its rules until they change", async () => {
  const { f, pollAll } = await startHosts(1);
  await add(f, [{ ...denyAll, name: "closed" }]);
  const networkId = (await pollAll())[0]?.networks?.[0]?.networkId ?? "";
  const read = createNetworkReader(f.ctx.db, networkId, findFleetNetwork);
  const first = await read();
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 2 }, undefined);
  const second = await read();
  expect(second?.rules).toBe(first?.rules);
  await add(f, [{ ...denyAll, name: "other" }]);
  const third = await read();
  expect(third?.rules).toHaveLength(2);
  expect(third?.rulesHash).not.toBe(first?.rulesHash);
});
