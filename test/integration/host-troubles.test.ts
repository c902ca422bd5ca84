import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { rowsOf } from "../../src/db/queries/rows.ts";
import { createService } from "../../src/services/create-service.ts";
import { getTenantByName } from "../../src/services/get-tenant-by-name.ts";
import { createPlacer } from "../../src/services/place-sets.ts";
import { replaceLostHosts } from "../../src/services/replace-lost-hosts.ts";
import { serviceBody } from "../support/fleet-context.ts";
import { type SimulatedAgent, startSimulatedAgent } from "../support/simulated-agent.ts";
import { createTestApi, type TestApi } from "../support/test-api.ts";
import { waitUntil } from "../support/wait-until.ts";

/** What is told of sets when a host, its Docker or Berth itself is away for a while: the real agent, the real API. */
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

async function startHosts(count: number): Promise<SimulatedAgent[]> {
  for (let number = 1; number <= count; number++) {
    agents.push(await startSimulatedAgent(api, `h${number}`));
  }
  await waitUntil("all hosts have reported", async () => {
    const rows = await rowsOf(api.ctx.db, sql`select 1 from hosts where reported_at is not null`);
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
  return rowsOf(
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

test("sets that were given for lost while Berth was away are ready again, though nothing of them has changed", async () => {
  await startHosts(2);
  await runService(2);
  for (const agent of agents) agent.isCut = true;
  await api.ctx.db.execute(sql`update hosts set lease_expires_at = now() - interval '1 second'`);
  expect(await replaceLostHosts(api.ctx)).toMatchObject({ lost: 2, replacedSets: 0 });
  expect((await setsNow()).map(({ state, ready }) => [state, ready])).toEqual([
    ["lost", false],
    ["lost", false],
  ]);
  for (const agent of agents) agent.isCut = false;
  await allReady(2);
});
