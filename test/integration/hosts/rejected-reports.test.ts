import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getTenantByName } from "../../../src/control/tenancy/get-tenant-by-name.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type SimulatedAgent, startSimulatedAgent } from "../../support/agent/simulated-agent.ts";
import { type ProxiedApi, startProxiedApi } from "../../support/api/proxied-api.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** Shows that no part of a report can cost a host its lease or its orders. */
let proxied: ProxiedApi;
let api: ProxiedApi["api"];
let proxy: ProxiedApi["proxy"];
let agent: SimulatedAgent | undefined;

beforeEach(async () => {
  proxied = await startProxiedApi();
  ({ api, proxy } = proxied);
});

afterEach(async () => {
  await agent?.stop();
  await proxied.close();
});

const renewed = () =>
  waitUntil("the lease is renewed", async () => {
    const rows = await queryRows(
      api.ctx.db,
      sql`select 1 from hosts where lease_expires_at > now() + interval '20 seconds'`,
    );
    return rows.length === 1;
  });

const expire = () =>
  api.ctx.db.execute(sql`update hosts set lease_expires_at = now() + interval '5 seconds'`);

async function placeOneSet(): Promise<void> {
  await api.ensureTenant("food");
  const { id } = await getTenantByName(api.ctx, "food");
  await createService(api.ctx, id, serviceBody("menu", { replicas: 1 }));
  await createPlacer(api.ctx).placeSets();
}

const setsHere = () => agent?.engine.observe(agent.hostId).length ?? 0;

const isReady = () =>
  waitUntil("the set is reported", async () => {
    const rows = await queryRows<{ ready: boolean }>(api.ctx.db, sql`select ready from sets`);
    return rows[0]?.ready === true;
  });

test("a proxy that refuses long reports costs neither the lease nor new orders", async () => {
  // Each sync has a measurement.
  const limits = { usageIntervalMs: 20 };
  agent = await startSimulatedAgent(api, "h1", limits, { apiUrl: proxy.url });
  await waitUntil("the host has reported", async () => {
    const rows = await queryRows(
      api.ctx.db,
      sql`select 1 from hosts where reported_at is not null`,
    );
    return rows.length === 1;
  });
  proxy.bodyBytesMax = 300;
  await expire();
  await renewed();
  await placeOneSet();
  await waitUntil("the agent runs the new set", () => setsHere() === 1);
  expect(proxy.answered).toBeGreaterThan(0);
  proxy.bodyBytesMax = Number.POSITIVE_INFINITY;
  await isReady();
});

test("an invalid measurement is omitted, and the rest of the report arrives", async () => {
  const used = { cpuMillis: Number.NaN, memoryBytes: -1, volumeBytes: 0.5, rootfsBytes: 0 };
  agent = await startSimulatedAgent(api, "h1", {}, { apiUrl: proxy.url, used });
  await renewed();
  await api.ctx.db.execute(sql`update hosts set reported_at = now()`);
  await placeOneSet();
  await isReady();
  expect(agent.status().omittedParts).toBeGreaterThan(0);
});
