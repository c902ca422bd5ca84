import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../src/lib/ids.ts";
import { mountApiForDocs } from "../../../src/routes/http/describe-api.ts";
import { newSecret } from "../../../src/lib/token-hash.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  type TestApi,
} from "../../support/api/test-api.ts";

const callers = [
  "nobody",
  "unknown",
  "admin",
  "operator",
  "tenant",
  "read",
  "readAll",
  "hook",
  "enroll",
  "host",
] as const;
type CallerKind = (typeof callers)[number];

const lookers: CallerKind[] = ["admin", "operator", "tenant", "read", "readAll"];
const changers: CallerKind[] = ["admin", "operator", "tenant"];
const fleetLookers: CallerKind[] = ["admin", "operator", "readAll"];
const fleetChangers: CallerKind[] = ["admin", "operator"];

/**
 * The permissions of each role. This list repeats the routes, so that a change there must be
 * deliberate.
 */
const allowed: Record<string, readonly CallerKind[]> = {
  createService: changers,
  listServices: lookers,
  getService: lookers,
  patchService: changers,
  deleteService: changers,
  scaleService: changers,
  resizeService: changers,
  waitService: lookers,
  createRollout: changers,
  listRollouts: lookers,
  getRollout: lookers,
  pauseRollout: changers,
  resumeRollout: changers,
  rollbackRollout: changers,
  promoteRollout: changers,
  addRolloutMeasurement: changers,
  waitRollout: lookers,
  listEndpoints: lookers,
  planService: lookers,
  listSets: lookers,
  getSet: lookers,
  explainSet: lookers,
  waitSet: lookers,
  stopSet: changers,
  startSet: changers,
  restartSet: changers,
  moveSet: changers,
  deleteSet: changers,
  listVolumes: lookers,
  restoreVolume: changers,
  purgeVolume: changers,
  readLogs: lookers,
  execSession: changers,
  attachSession: changers,
  listSessions: lookers,
  listHosts: fleetLookers,
  getHost: fleetLookers,
  patchHost: fleetChangers,
  cordonHost: fleetChangers,
  uncordonHost: fleetChangers,
  acceptMachine: fleetChangers,
  rotateHostCredential: fleetChangers,
  adoptVolumes: fleetChangers,
  drainHost: fleetChangers,
  deleteUnknownSets: fleetChangers,
  deleteHost: fleetChangers,
  listHostPools: fleetLookers,
  putHostPool: fleetChangers,
  createHook: changers,
  rotateHook: changers,
  patchHook: changers,
  listHooks: lookers,
  deleteHook: changers,
  listDemands: lookers,
  releaseDemand: changers,
  listDecisions: lookers,
  receiveAlertmanager: ["hook"],
  receiveGrafana: ["hook"],
  receiveZabbix: ["hook"],
  receiveFalcon: ["hook"],
  receiveFalconJson: ["hook"],
  receiveGeneric: ["hook"],
  listEvents: lookers,
  createToken: ["admin"],
  listTokens: ["admin"],
  rotateToken: ["admin"],
  revokeToken: ["admin"],
  createTenant: ["admin"],
  getTenant: lookers,
  patchTenant: ["admin"],
  listTenants: fleetChangers,
  putRegistry: changers,
  listRegistries: lookers,
  deleteRegistry: changers,
  createNetwork: changers,
  listNetworks: lookers,
  getNetwork: lookers,
  patchNetwork: changers,
  deleteNetwork: changers,
  listNetworkAddresses: lookers,
  createRules: changers,
  listRules: lookers,
  explainRules: lookers,
  getRule: lookers,
  patchRule: changers,
  deleteRule: changers,
  enrollHost: ["enroll"],
  syncHost: ["host"],
  takeNextCredential: ["host"],
  readHostNetworks: ["host"],
  receiveStream: ["host"],
  connectSession: ["host"],
  getMetrics: fleetLookers,
  getLiveness: callers,
  getReadiness: callers,
};

const operations = mountApiForDocs("0").mounted;
const secrets = new Map<CallerKind, string>();
let test: TestApi;

beforeAll(async () => {
  test = await createTestApi();
  secrets.set("unknown", "brt_nobodyhaseverseenthissecret");
  secrets.set("admin", test.adminToken);
  secrets.set("operator", await test.tokenOf("operator"));
  secrets.set("tenant", await test.tokenOf("tenant", "acme"));
  secrets.set("read", await test.tokenOf("read", "acme"));
  secrets.set("readAll", await test.tokenOf("read"));
  secrets.set("enroll", await test.tokenOf("enroll"));
  secrets.set("host", (await enrollTestHost(test, "host-1")).credential);
  secrets.set("hook", await makeHookToken());
});
afterAll(() => test.close());

async function makeHookToken(): Promise<string> {
  const token = secrets.get("tenant");
  const template = {
    cpu: 1,
    memory: "64Mi",
    containers: [{ index: 0, name: "app", image: "app:1", options: { cpu: 100, memory: 100 } }],
  };
  const service = { name: "hooked", replicas: 1, template, autoscale: { min: 1, max: 5 } };
  await test.request("POST", "/v1/services", { token, body: service });
  const hook = { name: "hook", rules: [{ want: { step: 1 } }] };
  const response = await test.request("POST", "/v1/services/hooked/hooks", { token, body: hook });
  return ((await response.json()) as { token: string }).token;
}

/** Ids of missing resources: an admitted request gets 404 or 422, and changes nothing. */
function fillPath(path: string): string {
  const values: Record<string, string> = {
    setId: newId("set"),
    hostId: newId("host"),
    hookId: newId("hook"),
    demandId: newId("dmd"),
    tokenId: newId("tok"),
    streamId: newId("str"),
    number: "1",
  };
  return path.replace(/\{([^}]+)\}/g, (_all, name: string) => values[name] ?? "nothing");
}

describe.each(operations.map((it) => [it.operationId, it] as const))("%s", (name, operation) => {
  it.each(callers)("as %s", async (caller) => {
    const may = allowed[name];
    expect(may, `${name} is in the table`).toBeDefined();
    const token = secrets.get(caller);
    const hasBody = ["POST", "PATCH", "PUT"].includes(operation.method);
    const response = await test.request(operation.method, fillPath(operation.path), {
      ...(token === undefined ? {} : { token }),
      ...(hasBody ? { body: {} } : {}),
    });
    if (may?.includes(caller) === true) {
      expect([401, 403]).not.toContain(response.status);
    } else {
      expect(response.status).toBe(isKnownTo(caller, name) ? 403 : 401);
    }
    await response.body?.cancel();
  });
});

/**
 * Berth looks up a secret only among secrets of its kind: those of hosts on /agent/v1, those of
 * tokens elsewhere.
 */
function isKnownTo(caller: CallerKind, operationId: string): boolean {
  if (caller === "nobody" || caller === "unknown") return false;
  const isForHosts = [
    "syncHost",
    "takeNextCredential",
    "readHostNetworks",
    "receiveStream",
    "connectSession",
  ].includes(operationId);
  return isForHosts ? caller === "host" : caller !== "host";
}

it("rejects a revoked token from its next request on", async () => {
  const body = { name: "short-lived", role: "read" };
  const made = await test.request("POST", "/v1/tokens", { token: test.adminToken, body });
  const { token, secret } = (await made.json()) as { token: { id: string }; secret: string };
  const before = await test.request("GET", "/v1/services", { token: secret });
  const revoked = await test.request("DELETE", `/v1/tokens/${token.id}`, {
    token: test.adminToken,
  });
  const after = await test.request("GET", "/v1/services", { token: secret });
  expect([before.status, revoked.status, after.status]).toEqual([200, 204, 401]);
});

it("rejects an expired token", async () => {
  const { sql } = await import("drizzle-orm");
  const token = await test.tokenOf("read");
  await test.ctx.db.execute(
    sql`update tokens set expires_at = now() - interval '1 second' where name = 'read-token'`,
  );
  test.ctx.tokenCache.clear(); // the cache forgets callers after two seconds
  const response = await test.request("GET", "/v1/services", { token });
  expect(response.status).toBe(401);
});

it("accepts an enroll token for one host, once", async () => {
  const token = await test.tokenOf("enroll");
  const body = (name: string) => ({
    protocol: 1,
    name,
    agentVersion: "test",
    allocatable: { cpuMillis: 1, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
  });
  const first = await test.request("POST", "/agent/v1/enroll", { token, body: body("one") });
  const second = await test.request("POST", "/agent/v1/enroll", { token, body: body("two") });
  expect([first.status, second.status]).toEqual([201, 401]);
});

it("repeats an enrollment after a lost answer, with the same credential only", async () => {
  const token = await test.tokenOf("enroll");
  const ask = (credential: string) =>
    test.request("POST", "/agent/v1/enroll", {
      token,
      body: {
        protocol: 1,
        name: "forgetful",
        agentVersion: "test",
        allocatable: { cpuMillis: 1, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
        credential,
      },
    });
  const own = newSecret();
  const answers = await Promise.all([ask(own), ask(own)]);
  answers.push(await ask(own));
  expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
  const hosts = await Promise.all(answers.map((answer) => answer.json()));
  expect(hosts).toEqual([hosts[0], hosts[0], hosts[0]]);
  expect(hosts[0]).toMatchObject({ credential: own });
  const sync = await test.request("POST", "/agent/v1/sync", { token: own, body: emptySync });
  expect(sync.status).toBe(200);
  expect((await ask(newSecret())).status).toBe(401);
});

it("stores no secret of a token or a host", async () => {
  const { sql } = await import("drizzle-orm");
  const rows = await test.ctx.db.execute(
    sql`select row_to_json(t)::text as row from tokens t union all select row_to_json(h)::text from hosts h`,
  );
  const text = JSON.stringify(rows);
  for (const secret of secrets.values()) expect(text).not.toContain(secret);
  expect(text).toContain("bootstrap");
});

it.each([
  ["Basic without a password", `Basic ${Buffer.from("only-a-name").toString("base64")}`],
  ["Bearer without a secret", "Bearer "],
  ["another scheme", "Digest abc"],
  ["a secret of 10,000 characters", `Bearer ${"a".repeat(10_000)}`],
  ["two secrets", "Bearer a b"],
])("answers 401 to %s", async (_name, authorization) => {
  const response = await test.request("GET", "/v1/services", { headers: { authorization } });
  expect(response.status).toBe(401);
  expect(response.headers.get("www-authenticate")).toContain("Bearer");
});
