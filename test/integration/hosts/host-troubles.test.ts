import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentLimits } from "../../../src/agent/base/agent-limits.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getTenantByName } from "../../../src/control/tenancy/get-tenant-by-name.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { newId } from "../../../src/lib/ids.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { type SimulatedAgent, startSimulatedAgent } from "../../support/agent/simulated-agent.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  type TestApi,
} from "../../support/api/test-api.ts";
import { waitUntil } from "../../support/wait-until.ts";

/**
 * Shows the states of sets while a host, its Docker daemon or Berth itself is unreachable, with the
 * real agent and the real API.
 */
let api: TestApi;
let agents: SimulatedAgent[] = [];

beforeEach(async () => {
  api = await createTestApi();
});

afterEach(async () => {
  await Promise.all(agents.map((agent) => agent.stop()));
  agents = [];
  await api.close();
});

async function startHosts(
  count: number,
  limits: Partial<AgentLimits> = {},
): Promise<SimulatedAgent[]> {
  for (let number = 1; number <= count; number++) {
    agents.push(await startSimulatedAgent(api, `h${number}`, limits));
  }
  await waitUntil("all hosts have reported", async () => {
    const rows = await queryRows(
      api.ctx.db,
      sql`select 1 from hosts where reported_at is not null`,
    );
    return rows.length === count;
  });
  return agents;
}

interface SetNow {
  id: string;
  hostId: string | null;
  state: string;
  ready: boolean;
  desired: string;
  reason: { code: string } | null;
}

async function setsNow(): Promise<SetNow[]> {
  return queryRows(
    api.ctx.db,
    sql`select id, host_id as "hostId", state, ready, desired, reason from sets where deleted_at is null order by id`,
  );
}

/** A service whose sets all run and are ready, one on each host. */
async function runService(
  replicas: number,
  more: Parameters<typeof serviceBody>[1] = {},
): Promise<void> {
  await api.ensureTenant("food");
  const tenant = await getTenantByName(api.ctx, "food");
  const body = serviceBody("web", { replicas, placement: { antiAffinity: ["web"] }, ...more });
  await createService(api.ctx, tenant.id, body);
  await createPlacer(api.ctx).placeSets();
  await allReady(replicas);
}

async function allReady(count: number): Promise<void> {
  await waitUntil(`${count} sets are ready`, async () => {
    const sets = await setsNow();
    return sets.length === count && sets.every(({ state, ready }) => state === "running" && ready);
  });
}

test("unchanged sets that Berth considered lost during its outage become ready again", async () => {
  await startHosts(2);
  await runService(2);
  for (const agent of agents) agent.isCut = true;
  let lost = 0;
  // A report in flight at the disconnection of its agent may have renewed a lease.
  await waitUntil("both are lost", async () => {
    await api.ctx.db.execute(sql`update hosts set lease_expires_at = now() - interval '1 second'`);
    await api.ctx.db.execute(
      sql`update fleet_watch set gap_started_at = now() - interval '10 minutes'`,
    );
    const outcome = await replaceSetsOfLostHosts(api.ctx);
    expect(outcome.replacedSets).toBe(0);
    lost += outcome.lost;
    return lost === 2;
  });
  expect((await setsNow()).map(({ state, ready }) => [state, ready])).toEqual([
    ["lost", false],
    ["lost", false],
  ]);
  for (const agent of agents) agent.isCut = false;
  await allReady(2);
});

async function hostState(hostId: string): Promise<string | undefined> {
  const rows = await queryRows<{ state: string }>(
    api.ctx.db,
    sql`select state from hosts where id = ${hostId}`,
  );
  return rows[0]?.state;
}

async function becomes(agent: SimulatedAgent, state: string): Promise<void> {
  await waitUntil(`the host is ${state}`, async () => (await hostState(agent.hostId)) === state);
}

/** Shifts the host's last change of state into the past by this time. */
async function age(agent: SimulatedAgent, ms: number): Promise<void> {
  await api.ctx.db.execute(
    sql`update hosts set lost_at = lost_at - make_interval(secs => ${ms / 1000}::float8) where id = ${agent.hostId}`,
  );
}

const quick: Partial<AgentLimits> = { pingIntervalMs: 200, pingTimeoutMs: 200 };
const minuteMs = 60_000;

test("sets are not ready, with the reason, while the Docker daemon of their host does not respond", async () => {
  const [first] = await startHosts(2, quick);
  await runService(2);
  if (!first) throw new Error("there are two");
  first.isDockerUnreachable = true;
  await becomes(first, "unhealthy");
  const now = await setsNow();
  expect(now.find(({ hostId }) => hostId === first.hostId)).toMatchObject({
    state: "running",
    ready: false,
    reason: { code: "docker-unreachable" },
  });
  expect(now.filter(({ ready }) => ready)).toHaveLength(1);
  first.isDockerUnreachable = false;
  await becomes(first, "ready");
  await allReady(2);
});

test("a host without a responding Docker daemon gets no new sets, and pending sets have the reason", async () => {
  const [only] = await startHosts(1, quick);
  if (!only) throw new Error("there is one");
  only.isDockerUnreachable = true;
  await becomes(only, "unhealthy");
  await api.ensureTenant("food");
  const tenant = await getTenantByName(api.ctx, "food");
  await createService(api.ctx, tenant.id, serviceBody("web"));
  expect(await createPlacer(api.ctx).placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  expect((await setsNow())[0]).toMatchObject({ state: "pending", hostId: null });
  only.isDockerUnreachable = false;
  await becomes(only, "ready");
  await waitUntil("it is placed", async () => {
    await createPlacer(api.ctx).placeSets();
    return (await setsNow())[0]?.ready;
  });
});

test("I3: sets on a host without Docker are replaced, and the old sets are removed on its return", async () => {
  const [first, second, third] = await startHosts(3, quick);
  await runService(2);
  const before = await setsNow();
  const unreachable = [first, second, third].find((host) => host?.hostId === before[0]?.hostId);
  if (!unreachable) throw new Error("it is on one of them");
  unreachable.isDockerUnreachable = true;
  await becomes(unreachable, "unhealthy");
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({ replacedSets: 0 });
  await age(unreachable, minuteMs);
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({ replacedSets: 0 });
  await age(unreachable, minuteMs);
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({
    lost: 0,
    replacedSets: 1,
    held: 0,
  });
  expect(await createPlacer(api.ctx).placeSets()).toMatchObject({ placed: 1 });
  await waitUntil("two are ready elsewhere", async () => {
    const ready = (await setsNow()).filter((set) => set.ready);
    return ready.length === 2 && ready.every(({ hostId }) => hostId !== unreachable.hostId);
  });
  expect(unreachable.engine.observe(unreachable.hostId)).toHaveLength(1);
  unreachable.isDockerUnreachable = false;
  await waitUntil("the old one is unreachable", async () => (await setsNow()).length === 2);
  expect(unreachable.engine.observe(unreachable.hostId)).toHaveLength(0);
});

test("I12: no set is replaced while the Docker daemons of a large part of a pool do not respond", async () => {
  await startHosts(4, quick);
  await runService(4);
  for (const agent of agents.slice(0, 2)) agent.isDockerUnreachable = true;
  for (const agent of agents.slice(0, 2)) await becomes(agent, "unhealthy");
  for (const agent of agents.slice(0, 2)) await age(agent, 2 * minuteMs);
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({ replacedSets: 0, held: 2 });
  for (const agent of agents) agent.isDockerUnreachable = true;
  for (const agent of agents) await becomes(agent, "unhealthy");
  for (const agent of agents) await age(agent, 2 * minuteMs);
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({ replacedSets: 0 });
  expect(await setsNow()).toHaveLength(4);
});

test("a service with the policy `wait` keeps its sets there, except a set with a failed start", async () => {
  const [first] = await startHosts(2, quick);
  await runService(2, { onHostLost: "wait" });
  if (!first) throw new Error("there are two");
  first.isDockerUnreachable = true;
  await becomes(first, "unhealthy");
  await age(first, 2 * minuteMs);
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({ replacedSets: 0 });
  // The state after a minute of failed starts: the set should be moved, and its host reports
  // nothing.
  await api.ctx.db.execute(
    sql`update sets set attempts = 1, state = 'failed', leaving = true where host_id = ${first.hostId}`,
  );
  await api.ctx.db.execute(
    sql`insert into operations (set_id, service_id, kind, phase, owner)
        select id, service_id, 'move', 'leaving', 'start-failed' from sets where host_id = ${first.hostId}`,
  );
  expect(await replaceSetsOfLostHosts(api.ctx)).toMatchObject({ replacedSets: 1 });
  expect((await setsNow()).filter(({ state }) => state === "pending")).toHaveLength(1);
});

test("an invalid name of an image, cgroup or volume does not reject the rest of a report", async () => {
  const { hostId, credential } = await enrollTestHost(api, "odd");
  const amounts = { cpuMillis: 1, memoryBytes: 2, volumeBytes: 3, rootfsBytes: 4 };
  const setId = newId("set");
  const response = await api.request("POST", "/agent/v1/sync", {
    token: credential,
    body: {
      ...emptySync,
      usage: {
        used: amounts,
        allocatable: amounts,
        setMemoryBytes: { [setId]: 5, "somebody's": 6, [newId("set")]: -1 },
      },
      images: ["menu:42", "x".repeat(256), 7],
      volumes: [{ volumeId: "odd" }],
    },
  });
  expect(response.status).toBe(200);
  const rows = await queryRows(
    api.ctx.db,
    sql`select images, set_memory as memory from hosts where id = ${hostId}`,
  );
  expect(rows).toEqual([{ images: ["menu:42"], memory: { [setId]: 5 } }]);
});

test("an agent reports although Docker has an image with an endless name and a foreign cgroup", async () => {
  const images = ["menu:42", `registry.example/${"x".repeat(250)}:1`];
  const memory = { [newId("set")]: 5, "somebody's": 6 };
  const agent = await startSimulatedAgent(api, "odd", {}, { images, memory });
  agents.push(agent);
  await waitUntil("it has reported both", async () => {
    const [row] = await queryRows<{ images: string[]; memory: object }>(
      api.ctx.db,
      sql`select images, set_memory as memory from hosts where id = ${agent.hostId}`,
    );
    return row?.images.length === 1 && Object.keys(row.memory).length === 1;
  });
  expect(await hostState(agent.hostId)).toBe("ready");
});
