import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  AGENT_IDENTITY_HEADER,
  encodeAgentIdentity,
} from "../../../src/contracts/agent-protocol/agent-identity.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

/** Agents of the previous release reject each answer with a set that has an unknown option. */
let api: TestApi;
beforeEach(async () => {
  api = await createTestApi();
});
afterEach(() => api.close());

const measured = {
  used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 8 * 2 ** 30, volumeBytes: 0, rootfsBytes: 2 ** 40 },
  reclaimableVolumeBytes: 0,
  trashedVolumeBytes: 0,
  volumeReason: null,
  disk: null,
  setMemoryBytes: {},
};

async function sync(credential: string, headers: Record<string, string> = {}): Promise<void> {
  const body = { ...emptySync, usage: measured };
  const answer = await api.request("POST", "/agent/v1/sync", { token: credential, headers, body });
  expect(answer.status).toBe(200);
}

function bodyWith(name: string, template: object, options: object) {
  const body = serviceBody(name) as { template: { containers: { options: object }[] } };
  const containers = body.template.containers.map((container) => ({
    ...container,
    options: { ...container.options, ...options },
  }));
  return { ...body, template: { ...body.template, ...template, containers } };
}

it("are refused while a host has an agent that does not know them", async () => {
  const host = await enrollTestHost(api, "h1");
  const token = await api.tokenOf("tenant", "food");
  const post = (url: string, body: object) => {
    const headers = { "idempotency-key": `key-${Math.random()}` };
    return api.request("POST", url, { token, headers, body });
  };
  // A host that never synced does not count: its agent may be of any release.
  expect((await post("/v1/services", bodyWith("early", {}, { init: false }))).status).toBe(201);
  await sync(host.credential);

  const newer = bodyWith("web", { shm: "16Mi", extraHosts: { db: "10.0.0.1" } }, { init: true });
  const refused = await post("/v1/services", newer);
  expect(refused.status).toBe(422);
  const problem = (await refused.json()) as { errors: { pointer: string }[] };
  expect(problem).toMatchObject({ code: "unsupported" });
  expect(problem.errors.map(({ pointer }) => pointer)).toEqual([
    "/template/shm",
    "/template/extraHosts",
    "/template/containers/0/options/init",
  ]);
  const plan = await post("/v1/plan", { kind: "create", service: newer });
  expect(plan.status).toBe(422);
  const created = await post("/v1/services", serviceBody("web"));
  expect(created.status).toBe(201);
  const patched = await api.request("PATCH", "/v1/services/web", {
    token,
    headers: { "if-match": created.headers.get("etag") ?? "" },
    body: { template: newer.template },
  });
  expect(patched.status).toBe(422);

  const identity = { machineId: "m1", bootId: "b1", processId: "p1", startedMs: 1 };
  await sync(host.credential, { [AGENT_IDENTITY_HEADER]: encodeAgentIdentity(identity) });
  expect((await post("/v1/services", { ...newer, name: "later" })).status).toBe(201);
});

it("are accepted while the only agent that does not know them is lost", async () => {
  const host = await enrollTestHost(api, "h1");
  await sync(host.credential);
  await api.ctx.db.execute(sql`update hosts set state = 'lost'`);
  const token = await api.tokenOf("tenant", "food");
  const headers = { "idempotency-key": "web-1" };
  const body = bodyWith("web", {}, { readOnlyRootfs: true });
  expect((await api.request("POST", "/v1/services", { token, headers, body })).status).toBe(201);
});
