import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { controlSet } from "../../../src/control/sets/control-set.ts";
import { getTenantByName } from "../../../src/control/tenancy/get-tenant-by-name.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { newId } from "../../../src/lib/ids.ts";
import { type SimulatedAgent, startSimulatedAgent } from "../../support/agent/simulated-agent.ts";
import { type ProxiedApi, startProxiedApi } from "../../support/api/proxied-api.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** Shows the real agent with an API that sends fields which this agent does not know. */
let proxied: ProxiedApi;
let api: ProxiedApi["api"];
let proxy: ProxiedApi["proxy"];
let agent: SimulatedAgent;

beforeEach(async () => {
  proxied = await startProxiedApi();
  ({ api, proxy } = proxied);
  agent = await startSimulatedAgent(api, "h1", {}, { apiUrl: proxy.url });
  await api.ensureTenant("food");
  await waitUntil("the host has reported", async () => {
    const rows = await queryRows(
      api.ctx.db,
      sql`select 1 from hosts where reported_at is not null`,
    );
    return rows.length === 1;
  });
});

afterEach(async () => {
  await agent.stop();
  await proxied.close();
});

interface SetRow {
  id: string;
  service: string;
  state: string;
  desired: string;
  ready: boolean;
  reason: { code: string; text: string } | null;
}

async function setOf(service: string): Promise<SetRow | undefined> {
  const rows = await queryRows<SetRow>(
    api.ctx.db,
    sql`select s.id, v.name as service, s.state, s.desired, s.ready, s.reason from sets s
        join services v on v.id = s.service_id where v.name = ${service} order by s.id`,
  );
  return rows[0];
}

async function run(service: string): Promise<void> {
  const { id } = await getTenantByName(api.ctx, "food");
  await createService(api.ctx, id, serviceBody(service, { replicas: 1 }));
  await createPlacer(api.ctx).placeSets();
}

const isReady = (service: string) =>
  waitUntil(`${service} is ready`, async () => (await setOf(service))?.ready === true);

/** Changes each set of the service in the answers. */
function changeSets(service: string, change: (set: { template: object }) => object): void {
  proxy.rewrite = (text) => {
    const body = JSON.parse(text) as { sets?: { service: string; template: object }[] };
    for (const set of body.sets ?? []) if (set.service === service) Object.assign(set, change(set));
    return JSON.stringify(body);
  };
}

/** Adds a field to the template of each set of the service in the answers. */
const addField = (service: string) =>
  changeSets(service, ({ template }) => ({ template: { ...template, holograms: true } }));

const dockerIds = () =>
  agent.engine
    .observe(agent.hostId)
    .flatMap(({ infra, containers }) => [infra, ...containers])
    .map((container) => [container?.dockerId, container?.state]);

test("I17: a set with an unknown field is reported, and the other sets run, stop and are deleted", async () => {
  await run("menu");
  await isReady("menu");
  const known = await setOf("menu");
  addField("future");
  await run("future");
  await waitUntil("the new set is reported", async () =>
    (await setOf("future"))?.reason?.text.includes("too old"),
  );
  expect((await setOf("future"))?.reason?.text).toMatch(/holograms/);
  expect(agent.engine.observe(agent.hostId).map(({ setId }) => setId)).toEqual([known?.id]);
  await run("orders");
  await isReady("orders");
  await controlSet(api.ctx, null, known?.id ?? "", "stop");
  await waitUntil(
    "the known set is stopped",
    async () => (await setOf("menu"))?.state === "stopped",
  );
});

test("I17: a running set with an unknown field runs on, and stops when it should", async () => {
  await run("menu");
  await isReady("menu");
  const setId = (await setOf("menu"))?.id ?? "";
  addField("menu");
  const before = dockerIds();
  // The agent starts without its state, as after a downgrade.
  await agent.restart({ losesState: true });
  await waitUntil("the set is reported", async () => (await setOf("menu"))?.state === "failed");
  expect((await setOf("menu"))?.reason).toMatchObject({ code: "agent-too-old" });
  expect(dockerIds()).toEqual(before);
  await controlSet(api.ctx, null, setId, "stop");
  await waitUntil("the set is stopped", async () => (await setOf("menu"))?.state === "stopped");
  proxy.rewrite = undefined; // as after an upgrade of the agent
  await controlSet(api.ctx, null, setId, "start");
  await isReady("menu");
});

test("I17: after a rollback, an agent that connects no sets starts no set of a network", async () => {
  await run("menu");
  await isReady("menu");
  const setId = (await setOf("menu"))?.id ?? "";
  const attachment = {
    networkId: newId("net"),
    vni: 4_097,
    interface: "eth0",
    mac: "0a:00:0a:40:00:02",
    addresses: ["10.64.0.2/16"],
    gateways: ["10.64.0.1"],
  };
  changeSets("menu", () => ({ attachments: [attachment] }));
  const before = dockerIds();
  await agent.restart({ losesState: true, features: [] });
  await waitUntil("the set is reported", async () => (await setOf("menu"))?.state === "failed");
  expect((await setOf("menu"))?.reason).toMatchObject({ code: "agent-too-old" });
  // A new infra would be on Docker's bridge, beside the sets of other tenants.
  await controlSet(api.ctx, null, setId, "restart");
  await waitUntil("the restart is accepted", async () => {
    const rows = await queryRows(
      api.ctx.db,
      sql`select 1 from sets s join hosts h on h.id = s.host_id
          where s.id = ${setId} and h.accepted_generation >= s.host_generation`,
    );
    return rows.length === 1;
  });
  expect(dockerIds()).toEqual(before);
});
