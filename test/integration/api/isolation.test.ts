import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../src/lib/ids.ts";
import { mountApiForDocs } from "../../../src/routes/http/describe-api.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

let test: TestApi;
let mine: string;
/** The resources of the other tenant. */
const theirs = { name: "secret-service", setId: "", hookId: "", token: "", volumeId: newId("vol") };

beforeAll(async () => {
  test = await createTestApi();
  mine = await test.tokenOf("tenant", "acme");
  theirs.token = await test.tokenOf("tenant", "globex");
  const token = theirs.token;
  const body = serviceBody(theirs.name, { replicas: 1, autoscale: { min: 1, max: 9 } });
  await test.request("POST", "/v1/services", { token, body });
  const network = { name: theirs.name, subnets: [{ cidr: "10.0.0.0/24" }] };
  await test.request("POST", "/v1/networks", { token, body: network });
  const rule = { name: theirs.name, network: theirs.name, direction: "ingress", action: "deny" };
  const rules = { rules: [{ ...rule, peer: { any: true } }] };
  await test.request("POST", "/v1/rules", { token, body: rules });
  const sets = await test.request("GET", "/v1/sets", { token });
  theirs.setId = ((await sets.json()) as { items: { id: string }[] }).items[0]?.id ?? "";
  const hook = { name: "their-hook", rules: [{ want: { step: 1 } }] };
  const made = await test.request("POST", `/v1/services/${theirs.name}/hooks`, {
    token,
    body: hook,
  });
  const host = await enrollTestHost(test, "host-1");
  const volume = {
    volumeId: theirs.volumeId,
    setId: newId("set"),
    tenant: "globex",
    usedBytes: null,
  };
  const times = { trashedAt: "2026-01-01T00:00:00Z", expiresAt: "2099-01-01T00:00:00Z" };
  const report = {
    ...volume,
    ...times,
    service: theirs.name,
    state: "trashed",
    sizeBytes: 2 ** 25,
  };
  const sync = { ...emptySync, volumes: [report] };
  await test.request("POST", "/agent/v1/sync", { token: host.credential, body: sync });
  theirs.hookId = ((await made.json()) as { hook: { id: string } }).hook.id;
});
afterAll(() => test.close());

/** Operations on one resource of a tenant, with a valid body if the operation has one. */
const bodies: Record<string, unknown> = {
  patchService: { priority: 5 },
  scaleService: { replicas: 9 },
  resizeService: { cpu: 2 },
  createRollout: { restart: true },
  pauseRollout: {},
  resumeRollout: {},
  rollbackRollout: {},
  promoteRollout: {},
  addRolloutMeasurement: { metric: "errors", value: 1 },
  rotateHook: { overlapSeconds: 60 },
  createHook: { name: "mine-now", rules: [{ want: { step: 1 } }] },
  patchHook: { stabilizationSeconds: 5 },
  purgeVolume: { confirm: theirs.volumeId },
  patchRule: { action: "allow" },
  patchNetwork: { subnets: [{ cidr: "10.0.0.0/24" }] },
};
const operations = mountApiForDocs("0").mounted.filter(
  ({ path, security }) =>
    /\{(name|setId|hookId|demandId|volumeId)\}/.test(path) &&
    security.some(({ bearerToken }) => bearerToken?.includes("tenant")),
);

/**
 * They refuse a request without a WebSocket before they look for the set. sessions.test.ts connects
 * one to a foreign set and to a missing one.
 */
const webSockets = new Set(["execSession", "attachSession"]);

describe.each(operations.map((it) => [it.operationId, it] as const))("%s", (name, operation) => {
  it("gives a foreign resource and a missing one the same response, byte for byte", async () => {
    const path = (values: Record<string, string>) =>
      operation.path.replace(/\{([^}]+)\}/g, (_all, key: string) => values[key] ?? "app");
    const known = {
      name: name === "getTenant" ? "globex" : theirs.name,
      setId: theirs.setId,
      hookId: theirs.hookId,
      volumeId: theirs.volumeId,
    };
    const unknown = {
      name: "no-such-service",
      setId: newId("set"),
      hookId: newId("hook"),
      volumeId: newId("vol"),
    };
    const demandId = newId("dmd");
    const number = "1";
    const [foreign, missing] = await Promise.all(
      [known, unknown].map(async (values) => {
        const target = path({ ...values, demandId, number });
        const response = await test.request(operation.method, target, {
          token: mine,
          headers: { "if-match": '"1"' },
          ...(name in bodies ? { body: bodies[name] } : {}),
        });
        const headers = [...response.headers].filter(([header]) => header !== "x-request-id");
        const text = (await response.text())
          .replace(target, "PATH")
          .replace(/"requestId":"[^"]+"/, "");
        return { status: response.status, headers, text };
      }),
    );
    expect(foreign?.status).toBe(webSockets.has(name) ? 422 : 404);
    expect(foreign).toEqual(missing);
  });
});

it("leaves the resources of the other tenant unchanged", async () => {
  const response = await test.request("GET", `/v1/services/${theirs.name}`, {
    token: theirs.token,
  });
  expect(await response.json()).toMatchObject({ generation: 1, replicas: 1, deleting: false });
});

it.each(["/v1/services", "/v1/sets", "/v1/events", "/v1/decisions", "/v1/rules"])(
  "lists no resource of another tenant at %s",
  async (path) => {
    const own = await test.request("GET", path, { token: theirs.token });
    const foreign = await test.request("GET", path, { token: mine });
    const all = await test.request("GET", path, { token: test.adminToken });
    const count = async (response: Response) =>
      ((await response.json()) as { items: unknown[] }).items.length;
    expect(await count(foreign)).toBe(0);
    if (path !== "/v1/decisions") expect(await count(own)).toBeGreaterThan(0);
    if (path !== "/v1/decisions") expect(await count(all)).toBeGreaterThan(0);
  },
);

it.each(["service=secret-service", "set=SET"])(
  "shows nothing of another tenant with the filter %s",
  async (filter) => {
    const query = filter.replace("SET", theirs.setId);
    const response = await test.request("GET", `/v1/events?${query}`, { token: mine });
    expect(await response.json()).toEqual({ items: [], nextCursor: null });
  },
);

it("permits services of one name in two tenants, and each sees its own", async () => {
  for (const [token, replicas] of [
    [mine, 1],
    [theirs.token, 3],
  ] as const) {
    await test.request("POST", "/v1/services", { token, body: serviceBody("twin", { replicas }) });
  }
  const replicasOf = async (token: string) =>
    (
      (await (await test.request("GET", "/v1/services/twin", { token })).json()) as {
        replicas: number;
      }
    ).replicas;
  expect([await replicasOf(mine), await replicasOf(theirs.token)]).toEqual([1, 3]);
});

describe("Berth-Tenant", () => {
  const get = (token: string, tenant: string, path = "/v1/services") =>
    test.request("GET", path, { token, headers: { "berth-tenant": tenant } });

  it("lets an admin look into one tenant", async () => {
    const response = await get(test.adminToken, "globex", `/v1/services/${theirs.name}`);
    expect(response.status).toBe(200);
  });

  it("selects the tenant default for names if the caller omits it", async () => {
    const response = await test.request("GET", `/v1/services/${theirs.name}`, {
      token: test.adminToken,
    });
    expect(response.status).toBe(404);
  });

  it("gives a foreign tenant and a missing one the same response to a caller with a tenant", async () => {
    const strip = async (response: Response) =>
      (await response.text()).replace(/"requestId":"[^"]+"/, "");
    const [foreign, missing, nonsense] = await Promise.all([
      get(mine, "globex"),
      get(mine, "no-such-tenant"),
      get(mine, "N0 TENANT!"),
    ]);
    expect(foreign.status).toBe(404);
    const text = await strip(foreign);
    expect(await strip(missing)).toBe(text);
    expect(await strip(nonsense)).toBe(text);
  });

  it("changes nothing if it names the caller's own tenant", async () => {
    expect((await get(mine, "acme")).status).toBe(200);
  });
});
