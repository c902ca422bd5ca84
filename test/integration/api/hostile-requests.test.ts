import { sql } from "drizzle-orm";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../src/lib/ids.ts";
import { mountApiForDocs } from "../../../src/routes/http/describe-api.ts";
import { newSecret } from "../../../src/lib/token-hash.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

/**
 * Answers each request with a status that its operation declares, which the harness checks, and
 * never with 500. A rejected request leaves the database unchanged.
 */
let test: TestApi;
let hookId: string;
let rotatedHookId: string;
let setId: string;
let hostId: string;
let tokenId: string;
const volumeId = newId("vol");
const tokens = { people: "", hook: "", host: "" };

beforeAll(async () => {
  test = await createTestApi();
  tokens.people = test.adminToken;
  const token = tokens.people;
  const body = serviceBody("target", { replicas: 1, autoscale: { min: 0, max: 9 } });
  await test.request("POST", "/v1/services", { token, body });
  const readToken = { name: "rotated", role: "read" };
  const rotated = await test.request("POST", "/v1/tokens", { token, body: readToken });
  tokenId = ((await rotated.json()) as { token: { id: string } }).token.id;
  const rule = { name: "target", network: "default", direction: "egress", action: "deny" };
  const rules = { rules: [{ ...rule, peer: { any: true } }] };
  await test.request("POST", "/v1/rules", { token, body: rules });
  const hook = { name: "hook", rules: [{ want: { step: 1 } }] };
  const made = await test.request("POST", "/v1/services/target/hooks", { token, body: hook });
  const created = (await made.json()) as { hook: { id: string }; token: string };
  hookId = created.hook.id;
  const other = { ...hook, name: "rotated" };
  const madeOther = await test.request("POST", "/v1/services/target/hooks", { token, body: other });
  rotatedHookId = ((await madeOther.json()) as { hook: { id: string } }).hook.id;
  tokens.hook = created.token;
  const host = await enrollTestHost(test, "host-1");
  hostId = host.hostId;
  tokens.host = host.credential;
  const volume = {
    volumeId,
    setId: newId("set"),
    tenant: "default",
    service: "target",
    usedBytes: null,
  };
  const times = { trashedAt: "2026-01-01T00:00:00Z", expiresAt: "2099-01-01T00:00:00Z" };
  const report = [{ ...volume, ...times, state: "trashed", sizeBytes: 2 ** 25 }];
  const sync = { ...emptySync, volumes: report };
  await test.request("POST", "/agent/v1/sync", { token: tokens.host, body: sync });
  const sets = await test.request("GET", "/v1/sets", { token });
  setId = ((await sets.json()) as { items: { id: string }[] }).items[0]?.id ?? "";
});
afterAll(() => test.close());

/** Valid bodies: mutations of them reach more code than random bodies. */
const validBodies: Record<string, unknown> = {
  createService: serviceBody("fresh"),
  patchService: { priority: 3, template: serviceBody("x").template },
  scaleService: { replicas: 2 },
  resizeService: { cpu: 2, memory: "64Mi" },
  createRollout: {
    containers: { app: { image: "app:2", options: { env: { A: "b" } } } },
    strategy: { steps: [{ select: { count: 1 }, promote: "manual" }] },
    ifActive: "supersede",
  },
  pauseRollout: { reason: "errors" },
  resumeRollout: { reason: "fixed" },
  rollbackRollout: { reason: "errors" },
  addRolloutMeasurement: { metric: "errors", value: 0.5 },
  promoteRollout: { select: { percent: 50 }, reason: "all is well" },
  purgeVolume: { confirm: volumeId },
  moveSet: { discardVolume: false },
  drainHost: { deadlineSeconds: 60, force: false },
  adoptVolumes: { deletedHostId: newId("host"), confirm: newId("host") },
  planService: { kind: "create", service: serviceBody("planned") },
  patchHost: { labels: { disk: "ssd" }, taints: [{ key: "gpu", value: "yes" }] },
  putRegistry: { username: "user", password: "secret" },
  createNetwork: { name: "net", subnets: [{ cidr: "10.0.0.0/24", reservations: ["10.0.0.9"] }] },
  patchNetwork: { subnets: [{ cidr: "fd00::/64", pools: ["fd00::10-fd00::20"] }] },
  createRules: {
    rules: [
      {
        name: "rule",
        network: "default",
        direction: "ingress",
        action: "deny",
        protocol: "tcp",
        ports: [80, "8000-8099"],
        service: "target",
        peer: { cidr: "10.0.0.0/8" },
      },
    ],
  },
  patchRule: { protocol: "udp", ports: ["53"], peer: { service: "target" }, priority: 7 },
  putHostPool: { overcommitPercent: { cpuMillis: 200 } },
  createHook: { name: "hook-2", rules: [{ match: { severity: "page" }, want: { factor: 2 } }] },
  patchHook: { rules: [{ match: {}, want: { step: 1 } }], stabilizationSeconds: 5 },
  rotateToken: { overlapSeconds: 60 },
  rotateHook: { overlapSeconds: 60 },
  createToken: { name: "token", role: "read", expiresInSeconds: 60 },
  createTenant: { name: "tenant", quota: { setsMax: 5 } },
  patchTenant: { quota: { setsMax: 6 }, grants: { pools: ["default"] } },
  receiveAlertmanager: {
    version: "4",
    alerts: [
      {
        status: "firing",
        labels: { alertname: "Busy" },
        startsAt: "2026-01-05T12:00:00Z",
        fingerprint: "f1",
      },
    ],
  },
  receiveGrafana: { version: "1", alerts: [] },
  receiveZabbix: { eventId: "1", value: "1", triggerId: "2", tags: [{ tag: "a", value: "b" }] },
  receiveFalconJson: { endpoint: "host-1", metric: "load", status: "PROBLEM", tags: "a:b" },
  receiveGeneric: { key: "busy", status: "firing", labels: { a: "b" } },
  syncHost: emptySync,
  takeNextCredential: { protocol: 1, credential: newSecret() },
  enrollHost: {
    protocol: 1,
    name: "host-9",
    agentVersion: "test",
    allocatable: { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1, rootfsBytes: 1 },
  },
};

const operations = mountApiForDocs("0").mounted.filter(
  ({ route }) => route.request?.body?.content["application/json"],
);

/** A successful enrollment consumes its token, so this function creates a new one if needed. */
let enrollToken = "";
async function tokenFor(operationId: string): Promise<string> {
  if (operationId === "syncHost" || operationId === "takeNextCredential") return tokens.host;
  if (operationId.startsWith("receive")) return tokens.hook;
  if (operationId !== "enrollHost") return tokens.people;
  if (enrollToken === "") enrollToken = await test.tokenOf("enroll");
  return enrollToken;
}

const pathOf = (path: string) =>
  path
    .replace("{name}", "target")
    .replace("{number}", "1")
    .replace("{setId}", setId)
    .replace("{volumeId}", volumeId)
    .replace("{hostId}", hostId)
    .replace("{hookId}", path.endsWith("/rotate") ? rotatedHookId : hookId)
    .replace("{tokenId}", tokenId)
    .replace("{pool}", "default");

/**
 * Everything that a refused request must not change, as one text. Leases are renewed by time, not
 * by requests.
 */
async function fingerprint(): Promise<string> {
  const rows = await test.ctx.db.execute(sql`
    select (select count(*) from tenants) as tenants, (select count(*) from tokens) as tokens,
      (select count(*) from hosts) as hosts, (select count(*) from host_pools) as pools,
      (select count(*) from revisions) as revisions, (select count(*) from sets) as sets,
      (select json_agg(v order by v.id) from volumes v) as volumes, (select count(*) from hooks) as hooks, (select count(*) from demands) as demands,
      (select count(*) from events) as events, (select count(*) from outbox) as outbox,
      (select count(*) from decisions) as decisions, (select json_agg(r order by r.id) from rules r) as rules, (select sum(version) from host_pools) as versions,
      (select json_agg(s order by s.id) from services s) as services,
      (select json_agg(json_build_array(h.id, h.labels, h.taints, h.cordoned, h.generation) order by h.id) from hosts h) as host_rows`);
  return JSON.stringify(rows);
}

interface Hostile {
  body?: string | Uint8Array;
  headers?: Record<string, string>;
}

async function send(operation: (typeof operations)[number], hostile: Hostile): Promise<Response> {
  const token = await tokenFor(operation.operationId);
  const response = await test.api.app.request(pathOf(operation.path), {
    method: operation.method,
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "if-match": '"1"',
      ...hostile.headers,
    },
    ...(hostile.body === undefined ? {} : { body: hostile.body }),
  });
  if (operation.operationId === "enrollHost" && response.ok) enrollToken = "";
  return response;
}

async function expectRefusedOrDone(
  operation: (typeof operations)[number],
  hostile: Hostile,
): Promise<number> {
  await tokenFor(operation.operationId); // a new one is not a trace of the request
  const before = await fingerprint();
  const response = await send(operation, hostile);
  expect(response.status, await response.clone().text()).toBeLessThan(500);
  if (response.status >= 400) {
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(await fingerprint()).toBe(before);
  }
  await response.body?.cancel();
  return response.status;
}

const nasty = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }),
  fc.constantFrom<unknown>(
    null,
    "",
    "\0",
    "\ud800",
    "x".repeat(70_000),
    -1,
    -0,
    0.1,
    1e308,
    2 ** 53,
    -(2 ** 63),
    [],
    {},
    true,
    "__proto__",
    "constructor",
    "../../etc/passwd",
    "'; drop table services; --",
    "$1",
    "%00",
    "9".repeat(400),
  ),
);

/** The body with one member, at any depth, replaced, removed or added to. */
function mutate(body: unknown, choose: (max: number) => number, value: unknown): unknown {
  if (typeof body !== "object" || body === null || choose(4) === 0) return value;
  const copy: Record<string, unknown> | unknown[] = Array.isArray(body) ? [...body] : { ...body };
  const keys = Object.keys(copy);
  const record = copy as Record<string, unknown>;
  const key = keys[choose(keys.length)];
  const what = key === undefined ? 0 : choose(8);
  if (key === undefined || what === 0) {
    Object.defineProperty(record, choose(2) === 0 ? "__proto__" : "extra", {
      value,
      enumerable: true,
      configurable: true,
    });
  } else if (what === 1) delete record[key];
  else record[key] = mutate(record[key], choose, value);
  return copy;
}

describe.each(operations.map((it) => [it.operationId, it] as const))("%s", (name, operation) => {
  it(
    "answers any JSON without a fault, and a rejected request changes nothing",
    { timeout: 300_000 },
    async () => {
      const seen = new Set<number>();
      await fc.assert(
        fc.asyncProperty(nasty, fc.infiniteStream(fc.nat()), async (value, numbers) => {
          const choose = (max: number) => (max === 0 ? 0 : (numbers.next().value ?? 0) % max);
          const body = JSON.stringify(mutate(validBodies[name], choose, value));
          seen.add(await expectRefusedOrDone(operation, { body }));
        }),
        { numRuns: 60 },
      );
      expect(seen.has(422)).toBe(true);
    },
  );

  it.each<[string, Hostile, number[]]>([
    ["no body", {}, [400]],
    ["an empty body", { body: "" }, [400]],
    ["half a body", { body: '{"name":' }, [400]],
    ["invalid UTF-8", { body: new Uint8Array([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d]) }, [400]],
    ["UTF-16", { body: new Uint8Array([0xff, 0xfe, 0x7b, 0x00]) }, [400]],
    ["100,000 nested arrays", { body: "[".repeat(100_000) + "]".repeat(100_000) }, [400, 422]],
    [
      "100,000 nested objects",
      { body: '{"a":'.repeat(100_000) + "1" + "}".repeat(100_000) },
      [400, 422],
    ],
    ["__proto__ only", { body: '{"__proto__":{"admin":true}}' }, [422]],
    ["another content type", { body: "{}", headers: { "content-type": "text/plain" } }, [415]],
    ["an odd content type", { body: "{}", headers: { "content-type": ";;" } }, [415]],
    ["a form", { body: "a=b", headers: { "content-type": "multipart/form-data" } }, [415]],
  ])("rejects %s", async (_name, hostile, statuses) => {
    expect(statuses).toContain(await expectRefusedOrDone(operation, hostile));
  });

  // Senders retry large deliveries of alerts: see hooks.test.ts.
  it.skipIf(/^receive(Alertmanager|Grafana|Zabbix|FalconJson|Generic)$/.test(name))(
    "answers 413 to a body over the limit",
    async () => {
      const body = `{"x":"${"a".repeat(9 * 2 ** 20)}"}`;
      expect(await expectRefusedOrDone(operation, { body })).toBe(413);
    },
  );

  it("uses the last of two equal members", async () => {
    const valid = JSON.stringify(validBodies[name]);
    const twice = `{"protocol":"no","name":7,"kind":7,"replicas":"x",${valid.slice(1)}`;
    await expectRefusedOrDone(operation, { body: twice });
  });
});

describe("text that Postgres cannot hold", () => {
  const unstorable = ["a\0b", "\ud800", "\udfff\ud800"];
  const operation = (operationId: string) => {
    const found = operations.find((it) => it.operationId === operationId);
    if (!found) throw new Error(`no ${operationId}`);
    return found;
  };

  it.each(unstorable)("answers 422 to %j from users, in values and in keys", async (text) => {
    const enroll = { ...(validBodies["enrollHost"] as object), agentVersion: text };
    const hook = { name: "odd", rules: [{ match: { [text]: "x" }, want: { step: 1 } }] };
    for (const [name, body] of [
      ["enrollHost", enroll],
      ["createHook", hook],
    ] as const) {
      const hostile = { body: JSON.stringify(body) };
      expect(await expectRefusedOrDone(operation(name), hostile)).toBe(422);
    }
  });

  it.each(unstorable)("accepts %j from machines, whose reports must not block", async (text) => {
    const sync = { ...emptySync, agentVersion: text, docker: { state: "slow", detail: text } };
    const alert = { key: text, status: "firing", labels: { [text]: text } };
    for (const [name, body] of [
      ["syncHost", sync],
      ["receiveGeneric", alert],
    ] as const) {
      const hostile = { body: JSON.stringify(body) };
      expect(await expectRefusedOrDone(operation(name), hostile)).toBe(200);
    }
  });
});

describe("paths, queries and headers", () => {
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const before = await fingerprint();
    const response = await test.api.app.request(path, {
      headers: { authorization: `Bearer ${tokens.people}`, ...headers },
    });
    expect(await fingerprint()).toBe(before);
    return response.status;
  };

  it.each([
    "/v1/services/%00",
    "/v1/services/%ff",
    "/v1/services/UPPER",
    "/v1/services/..%2f..%2fetc",
    `/v1/services/${"a".repeat(5_000)}`,
    "/v1/sets/set_x",
    "/v1/sets/%27%3B--/explain",
    "/v1/hosts/host_",
    "/nowhere",
    "/v1/services/target/",
    "/problems/__proto__",
  ])("answers 404 to %s", async (path) => {
    expect(await get(path)).toBe(404);
  });

  it.each([
    "/v1/services?limit=0",
    "/v1/services?limit=501",
    "/v1/services?limit=x",
    "/v1/services?limit=1&limit=2",
    "/v1/services?cursor=%00",
    "/v1/services?cursor=AAAA",
    `/v1/services?cursor=${"a".repeat(300)}`,
    "/v1/events?cursor=c2V0",
    "/v1/events?after=x",
    "/v1/events?kind=nothing",
    "/v1/sets?state=flying",
    "/v1/sets?service=%00",
    "/v1/services/target/wait?timeoutSeconds=61",
    "/v1/services/target/wait?for=ever",
  ])("answers 422 to %s", async (path) => {
    expect(await get(path)).toBe(422);
  });

  it.each(["seven", '"1", "2"', "W/x", "-1"])("answers 422 to If-Match: %s", async (tag) => {
    const response = await test.request("PATCH", "/v1/services/target", {
      token: tokens.people,
      body: { priority: 1 },
      headers: { "if-match": tag },
    });
    expect(response.status).toBe(422);
  });

  it("replaces an invalid request id", async () => {
    const ask = async (id: string) =>
      (await test.request("GET", "/healthz", { headers: { "x-request-id": id } })).headers.get(
        "x-request-id",
      );
    expect(await ask("trace-1.a_B")).toBe("trace-1.a_B");
    expect(await ask("a b")).toMatch(/^req_/);
    expect(await ask("x".repeat(65))).toMatch(/^req_/);
  });

  it.each([
    ["DELETE", "/v1/services", "POST, GET"],
    ["POST", "/v1/services/target", "GET, PATCH, DELETE"],
    ["PUT", "/healthz", "GET"],
    ["POST", "/docs", "GET"],
  ])("answers 405 to %s %s, with the supported methods", async (method, path, allow) => {
    const response = await test.request(method, path, { token: tokens.people });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe(allow);
  });
});
