import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Service } from "../../../src/contracts/api/services.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

let test: TestApi;
let token: string;
beforeAll(async () => {
  test = await createTestApi();
  token = await test.tokenOf("tenant", "acme");
});
afterAll(() => test.close());

const send = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
  test.request(method, path, { token, body, headers });
const json = async <T = Record<string, unknown>>(response: Response | Promise<Response>) =>
  (await (await response).json()) as T;
const create = (name: string, parts: Record<string, unknown> = {}) =>
  send("POST", "/v1/services", serviceBody(name, parts));

describe("create", () => {
  it("stores the service with its pending sets, and enqueues the placement job once", async () => {
    const jobsBefore = test.enqueued.length;
    const response = await create("menu", { replicas: 3 });
    expect(response.status).toBe(201);
    expect(response.headers.get("location")).toBe("/v1/services/menu");
    expect(response.headers.get("etag")).toBe('"1"');
    const { service } = await json<{ service: Service }>(response);
    expect(service).toMatchObject({
      name: "menu",
      tenant: "acme",
      replicas: 3,
      desiredReplicas: 3,
      settled: false,
      counts: { pending: 3, ready: 0 },
      template: { cpuMillis: 500, memoryBytes: 64 * 2 ** 20 },
    });
    expect(test.enqueued.slice(jobsBefore)).toMatchObject([{ name: "place-sets" }]);
  });

  it("answers 409 to a used name, and leaves the first service unchanged", async () => {
    await create("taken", { replicas: 1 });
    const response = await create("taken", { replicas: 7 });
    expect(response.status).toBe(409);
    expect(await json(response)).toMatchObject({ code: "already-exists" });
    expect(await json(send("GET", "/v1/services/taken"))).toMatchObject({ replicas: 1 });
  });

  const base = serviceBody("x").template;
  const container = base.containers[0];
  it.each<[string, Record<string, unknown>, string]>([
    [
      "memory shares over 100 %",
      { template: { ...base, containers: [container, { ...container, name: "b" }] } },
      "/template/containers",
    ],
    [
      "two containers of one name",
      { template: { ...base, containers: [container, container] } },
      "/template/containers/1/name",
    ],
    [
      "a container named infra",
      { template: { ...base, containers: [{ ...container, name: "infra" }] } },
      "/template/containers/0/name",
    ],
    [
      "a size without a unit that exists",
      { template: { ...base, memory: "8Zi" } },
      "/template/memory",
    ],
    ["a size that is an object", { template: { ...base, memory: {} } }, "/template/memory"],
    ["too little memory", { template: { ...base, memory: "1Mi" } }, "/template/memory"],
    [
      "a rate that is no size",
      { template: { ...base, io: { readBytesPerSecond: "fast" } } },
      "/template/io/readBytesPerSecond",
    ],
    ["min above max", { autoscale: { min: 5, max: 1 } }, "/autoscale/min"],
    [
      "replicas outside of min and max",
      { replicas: 9, autoscale: { min: 1, max: 3 } },
      "/replicas",
    ],
    ["too many replicas", { replicas: 20_001 }, "/replicas"],
    ["an unknown member", { replica: 1 }, ""],
    [
      "a volume too small for a file system",
      { template: { ...base, volume: { size: "1Mi", mountPath: "/data" } } },
      "/template/volume/size",
    ],
    ["a name that is no DNS label", { name: "Not A Name" }, "/name"],
  ])("rejects %s with a pointer to it", async (_name, parts, pointer) => {
    const response = await create("refused", parts);
    expect(response.status).toBe(422);
    const problem = await json<{ errors: { pointer: string }[] }>(response);
    expect(problem.errors.map((error) => error.pointer)).toContain(pointer);
    expect((await send("GET", "/v1/services/refused")).status).toBe(404);
  });

  it("rejects a service beyond the quota of the tenant", async () => {
    const response = await create("greedy", { replicas: 2_000 });
    expect(response.status).toBe(422);
    expect(await json(response)).toMatchObject({ code: "quota-exceeded" });
  });
});

describe("read", () => {
  it("gives concurrent reads their own services of any size and tenant", async () => {
    const sizes = { "read-small": 1, "read-large": 501, "read-empty": 0 };
    for (const [name, replicas] of Object.entries(sizes)) await create(name, { replicas });
    const other = await test.tokenOf("tenant", "read-other");
    const names = ["read-small", "read-large", "read-missing", "read-empty", "read-small"];
    const responses = await Promise.all([
      ...names.map((name) => send("GET", `/v1/services/${name}`)),
      test.request("GET", "/v1/services/read-small", { token: other }),
    ]);
    expect(responses.map(({ status }) => status)).toEqual([200, 200, 404, 200, 200, 404]);
    const services = await Promise.all(
      responses.filter(({ ok }) => ok).map((response) => json<Service>(response)),
    );
    expect(services.map(({ name, counts }) => [name, counts.pending])).toEqual([
      ["read-small", 1],
      ["read-large", 501],
      ["read-empty", 0],
      ["read-small", 1],
    ]);
  });
});

describe("scale", () => {
  it("is absolute: a repeated request changes nothing", async () => {
    await create("scaled", { replicas: 1 });
    const first = await json<{ service: Service }>(
      send("POST", "/v1/services/scaled/scale", { replicas: 4 }),
    );
    const second = await json<{ service: Service }>(
      send("POST", "/v1/services/scaled/scale", { replicas: 4 }),
    );
    expect(first.service).toMatchObject({ replicas: 4, generation: 2, counts: { pending: 4 } });
    expect(second.service).toMatchObject({ replicas: 4, generation: 2, counts: { pending: 4 } });
  });

  it("answers 412 to a stale generation, and changes nothing", async () => {
    await create("raced", { replicas: 1 });
    await send("POST", "/v1/services/raced/scale", { replicas: 2 }, { "if-match": '"1"' });
    const late = await send(
      "POST",
      "/v1/services/raced/scale",
      { replicas: 9 },
      { "if-match": '"1"' },
    );
    expect(late.status).toBe(412);
    expect(await json(send("GET", "/v1/services/raced"))).toMatchObject({ replicas: 2 });
  });

  it("answers 404 to a missing service", async () => {
    expect((await send("POST", "/v1/services/nowhere/scale", { replicas: 1 })).status).toBe(404);
  });
});

describe("patch", () => {
  it("requires the generation that the caller has read", async () => {
    await create("patched");
    const without = await send("PATCH", "/v1/services/patched", { priority: 7 });
    const star = await send("PATCH", "/v1/services/patched", { priority: 7 }, { "if-match": "*" });
    const wrong = await send("PATCH", "/v1/services/patched", { priority: 7 }, { "if-match": "9" });
    expect([without.status, star.status, wrong.status]).toEqual([428, 428, 412]);
    expect(await json(send("GET", "/v1/services/patched"))).toMatchObject({ priority: 100 });
  });

  it("changes the named members only; a new template is a new target revision", async () => {
    await create("revised", { replicas: 1 });
    const template = {
      ...serviceBody("x").template,
      cpu: 2,
      sysctls: { "net.core.somaxconn": "9" },
    };
    const response = await send(
      "PATCH",
      "/v1/services/revised",
      { template },
      { "if-match": '"1"' },
    );
    expect(response.status).toBe(200);
    const { service } = await json<{ service: Service }>(response);
    expect(service).toMatchObject({
      revision: 1,
      targetRevision: 2,
      replicas: 1,
      template: { cpuMillis: 2_000 },
    });
    expect(response.headers.get("etag")).toBe(`"${service.generation}"`);
  });

  it("adds limits of block I/O, and removes them", async () => {
    const { template } = serviceBody("x");
    const io = { readBytesPerSecond: "50Mi", writeOpsPerSecond: 200 };
    const created = await create("limited", { template: { ...template, io } });
    const { service } = await json<{ service: Service }>(created);
    expect(service.template.io).toEqual({ ...io, readBytesPerSecond: 50 * 2 ** 20 });
    const body = { template };
    const headers = { "if-match": '"1"' };
    const lifted = await send("PATCH", "/v1/services/limited", body, headers);
    const after = await json<{ service: Service }>(lifted);
    expect(after.service.targetRevision).toBe(2);
    expect(Object.keys(after.service.template)).not.toContain("io");
  });

  it("accepts one of two changes of the same generation", async () => {
    await create("contended");
    const patch = (priority: number) =>
      send("PATCH", "/v1/services/contended", { priority }, { "if-match": '"1"' });
    const statuses = (await Promise.all([patch(1), patch(2), patch(3)])).map((it) => it.status);
    expect(statuses.toSorted((a, b) => a - b)).toEqual([200, 412, 412]);
  });
});

describe("delete", () => {
  it("removes pending sets immediately, and then the service", async () => {
    await create("gone", { replicas: 2 });
    const response = await send("DELETE", "/v1/services/gone");
    expect(response.status).toBe(202);
    expect((await send("GET", "/v1/services/gone")).status).toBe(404);
    const sets = await json<{ items: unknown[] }>(send("GET", "/v1/sets?service=gone"));
    expect(sets.items).toEqual([]);
    expect((await create("gone")).status).toBe(201);
  });
});

describe("wait", () => {
  it("ends after the timeout, with `reached: false`", async () => {
    await create("slow", { replicas: 1 });
    const response = await send("GET", "/v1/services/slow/wait?timeoutSeconds=1");
    expect(await json(response)).toMatchObject({ reached: false, service: { name: "slow" } });
  });

  it("ends as soon as the condition is met", async () => {
    await create("empty", { replicas: 1 });
    const waiting = send("GET", "/v1/services/empty/wait?timeoutSeconds=20");
    await send("POST", "/v1/services/empty/scale", { replicas: 0 });
    expect(await json(waiting)).toMatchObject({ reached: true, service: { settled: true } });
  });

  it("ends when the service is deleted", async () => {
    await create("leaving", { replicas: 1 });
    const waiting = send("GET", "/v1/services/leaving/wait?for=deleted&timeoutSeconds=20");
    await send("DELETE", "/v1/services/leaving");
    expect(await json(waiting)).toEqual({ reached: true, service: null });
  });

  it("answers 404 for a missing service, even with `for=deleted`", async () => {
    const response = await send("GET", "/v1/services/nowhere/wait?for=deleted&timeoutSeconds=0");
    expect(response.status).toBe(404);
  });

  it("ends when the caller disconnects", async () => {
    const abort = new AbortController();
    await create("abandoned", { replicas: 1 });
    const waiting = test.request("GET", "/v1/services/abandoned/wait?timeoutSeconds=20", {
      token,
      signal: abort.signal,
    });
    const abortedAt = Date.now();
    abort.abort();
    await waiting.catch(() => undefined);
    expect(Date.now() - abortedAt).toBeLessThan(18_000);
  });
});

describe("list", () => {
  it("lists each service once, in a stable order", async () => {
    const own = await test.tokenOf("tenant", "lists");
    for (const name of ["a", "b", "c", "d", "e"]) {
      const body = serviceBody(name, { replicas: 0 });
      await test.request("POST", "/v1/services", { token: own, body });
    }
    const names: string[] = [];
    let next: string | null = "";
    while (next !== null) {
      const query: string = next === "" ? "" : `&cursor=${next}`;
      const page: { items: Service[]; nextCursor: string | null } = await json(
        test.request("GET", `/v1/services?limit=2${query}`, { token: own }),
      );
      names.push(...page.items.map((service) => service.name));
      next = page.nextCursor;
    }
    expect(names).toEqual(["a", "b", "c", "d", "e"]);
  });
});
