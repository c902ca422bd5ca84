import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { AgentLimits } from "../../../src/agent/base/agent-limits.ts";
import { AppError } from "../../../src/contracts/common/app-error.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getTenantByName } from "../../../src/control/tenancy/get-tenant-by-name.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type SimulatedAgent, startSimulatedAgent } from "../../support/agent/simulated-agent.ts";
import { type ProxiedApi, startProxiedApi } from "../../support/api/proxied-api.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** Shows the real agent and the real API, with a proxy between them, when the agent is refused. */
let proxied: ProxiedApi;
let api: ProxiedApi["api"];
let proxy: ProxiedApi["proxy"];
let agent: SimulatedAgent;

const limits: Partial<AgentLimits> = {
  startupGraceMs: 200,
  rejectedAfterMs: 2_000,
  deletedAfterMs: 500,
  rejectedWaitMs: 1_000,
};

beforeEach(async () => {
  proxied = await startProxiedApi();
  ({ api, proxy } = proxied);
  agent = await startSimulatedAgent(api, "h1", limits, { apiUrl: proxy.url });
  await runService();
});

afterEach(async () => {
  await agent.stop();
  await proxied.close();
});

/** Starts one set on the host. */
async function runService(): Promise<void> {
  await waitUntil("the host has reported", async () => (await hostRows("reported_at")) !== null);
  await api.ensureTenant("food");
  const tenant = await getTenantByName(api.ctx, "food");
  await createService(api.ctx, tenant.id, serviceBody("web", { replicas: 1 }));
  await createPlacer(api.ctx).placeSets();
  await waitUntil("the set is ready", async () => {
    const rows = await queryRows<{ ready: boolean }>(api.ctx.db, sql`select ready from sets`);
    return rows[0]?.ready === true;
  });
}

async function hostRows(column: string): Promise<unknown> {
  const rows = await queryRows<{ value: unknown }>(
    api.ctx.db,
    sql`select ${sql.raw(column)} as value from hosts where id = ${agent.hostId}`,
  );
  return rows[0]?.value ?? null;
}

const runningContainers = () =>
  agent.engine
    .observe(agent.hostId)
    .flatMap(({ infra, containers }) => [infra, ...containers])
    .filter((container) => container?.state === "running");

/** Ends the business container. Only an agent that manages its sets starts it again. */
async function crashAndSeeRestart(): Promise<void> {
  const [container] = agent.engine.observe(agent.hostId).flatMap(({ containers }) => containers);
  agent.engine.exit(container?.dockerId ?? "");
  await waitUntil("the agent has restarted the container", () => runningContainers().length === 2);
}

test.each([
  ["a page of an ingress", 401, "text/html", "<h1>401 Authorization Required</h1>"],
  ["a forbidding firewall", 403, "text/html", "<h1>403 Forbidden</h1>"],
  ["a removed site", 410, "text/html", "<h1>410 Gone</h1>"],
  ["a problem of another API", 410, "application/problem+json", '{"code":"host-deleted"}'],
  ["a problem without a signature", 401, "application/problem+json", '{"code":"unauthenticated"}'],
])(
  "I17: %s from a proxy never counts as a rejection, and the agent manages its sets",
  async (_name, status, type, body) => {
    proxy.answer = { status, headers: { "content-type": type }, body };
    await waitUntil("the proxy has refused several syncs", () => proxy.answered >= 5);
    await crashAndSeeRestart();
    await agent.restart();
    await crashAndSeeRestart();
    expect(agent.endedBy).toBeUndefined();
    await waitUntil("the proxy refuses", () => agent.status().controlPlane === "refused");
    proxy.answer = undefined;
    await waitUntil("the API answers again", () => agent.status().controlPlane === "accepted");
    expect(runningContainers()).toHaveLength(2);
  },
);

test("I17: a credential that the API does not know is rejected after a time, and the sets stay managed", async () => {
  await api.ctx.db.execute(sql`update hosts set credential_hash = 'another'`);
  await waitUntil("the agent is rejected", () => agent.status().controlPlane === "rejected");
  await crashAndSeeRestart();
  await agent.restart();
  await crashAndSeeRestart();
  expect(agent.endedBy).toBeUndefined();
});

test("I3: an agent stops the sets of its deleted host, even after its restart, and idles", async () => {
  await waitUntil("the host is deleted", async () => {
    await api.ctx.db.execute(sql`update hosts set state = 'lost', lost_at = now()`);
    const deletion = deleteHost(api.ctx, agent.hostId, { confirm: agent.hostId });
    return deletion.then(
      () => true,
      (error: unknown) => {
        // The host became ready by a sync before the deletion began.
        if (error instanceof AppError && error.code === "state-conflict") return false;
        throw error;
      },
    );
  });
  await waitUntil("the sets are stopped", () => runningContainers().length === 0);
  expect(agent.status().controlPlane).toBe("deleted");
  await agent.restart();
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(runningContainers()).toEqual([]);
  expect(agent.endedBy).toBeUndefined();
  expect(agent.engine.observe(agent.hostId)).toHaveLength(1);
});
