import { sql } from "drizzle-orm";
import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppError } from "../../../src/contracts/common/app-error.ts";
import { authenticate } from "../../../src/control/tenancy/authenticate.ts";
import type { ApiContext, ApiEnv } from "../../../src/routes/http/api-env.ts";
import { withIdempotencyKey } from "../../../src/routes/http/idempotency.ts";
import { createTenantBody } from "../../../src/contracts/api/tenancy.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { unitOfWork } from "../../../src/control/runtime/unit-of-work.ts";
import { runIdempotent } from "../../../src/control/runtime/idempotency.ts";
import { createRetention } from "../../../src/control/events/retention.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

let test: TestApi;
beforeAll(async () => {
  test = await createTestApi();
});
afterAll(() => test.close());

const post = (path: string, key: string, body?: unknown, token = test.adminToken) =>
  test.request("POST", path, { token, body, headers: { "idempotency-key": key } });

async function countServices(name: string): Promise<number> {
  const rows = await queryRows(test.ctx.db, sql`select id from services where name = ${name}`);
  return rows.length;
}

it("gives 20 concurrent requests with one key one effect and one response", async () => {
  const jobsBefore = test.enqueued.length;
  const responses = await Promise.all(
    Array.from({ length: 20 }, () => post("/v1/services", "storm", serviceBody("storm"))),
  );
  const answered = responses.filter((response) => response.status === 201);
  const busy = responses.filter((response) => response.status === 409);
  expect(answered.length).toBeGreaterThan(0);
  expect(answered.length + busy.length).toBe(20);
  const codes = await Promise.all(
    busy.map(async (response) => ((await response.json()) as { code: string }).code),
  );
  expect(new Set(codes)).toEqual(new Set(busy.length > 0 ? ["idempotency-in-progress"] : []));
  const texts = await Promise.all(answered.map((response) => response.text()));
  expect(new Set(texts).size).toBe(1);
  const fresh = answered.filter((response) => !response.headers.has("idempotency-replayed"));
  expect(fresh).toHaveLength(1);
  expect(await countServices("storm")).toBe(1);
  expect(test.enqueued.length - jobsBefore).toBe(1);
});

it("repeats the first response with its headers for a later equal request", async () => {
  const first = await post("/v1/services", "again", serviceBody("again"));
  const second = await post("/v1/services", "again", serviceBody("again"));
  expect(second.status).toBe(201);
  expect(second.headers.get("idempotency-replayed")).toBe("true");
  expect(second.headers.get("etag")).toBe(first.headers.get("etag"));
  expect(second.headers.get("location")).toBe("/v1/services/again");
  expect(await second.text()).toBe(await first.text());
});

it("rejects another request with a used key as a conflict, which changes nothing", async () => {
  await post("/v1/services", "used", serviceBody("used"));
  const response = await post("/v1/services", "used", serviceBody("used-other"));
  expect(response.status).toBe(409);
  expect(await response.json()).toMatchObject({ code: "idempotency-conflict" });
  expect(await countServices("used-other")).toBe(0);
});

it("repeats a 4xx response even after its cause has ended", async () => {
  const tight = serviceBody("refused", { template: { ...serviceBody("x").template, cpu: 1_000 } });
  await test.ensureTenant("small");
  await test.ctx.db.execute(sql`update tenants set cpu_millis_max = 1 where name = 'small'`);
  const token = await test.tokenOf("tenant", "small");
  const first = await post("/v1/services", "refused", tight, token);
  await test.ctx.db.execute(sql`update tenants set cpu_millis_max = 9000000 where name = 'small'`);
  const second = await post("/v1/services", "refused", tight, token);
  expect([first.status, second.status]).toEqual([422, 422]);
  expect(second.headers.get("content-type")).toBe("application/problem+json");
  expect(await second.text()).toBe(await first.text());
});

it("separates equal keys of different callers", async () => {
  const acme = await test.tokenOf("tenant", "acme");
  const globex = await test.tokenOf("tenant", "globex");
  const one = await post("/v1/services", "shared", serviceBody("mine"), acme);
  const other = await post("/v1/services", "shared", serviceBody("mine"), globex);
  expect([one.status, other.status]).toEqual([201, 201]);
  expect(other.headers.has("idempotency-replayed")).toBe(false);
});

it("repeats an answer with a secret, which the database does not contain in clear", async () => {
  const body = { name: "sealed", role: "read" };
  const first = (await (await post("/v1/tokens", "sealed", body)).json()) as { secret: string };
  const second = (await (await post("/v1/tokens", "sealed", body)).json()) as { secret: string };
  expect(second.secret).toBe(first.secret);
  const rows = await test.ctx.db.execute(sql`select body from idempotency_keys`);
  expect(JSON.stringify(rows)).not.toContain(first.secret.slice(4));
});

it.each(["", "ä", "a".repeat(256), "two words"])("rejects the key %j", async (key) => {
  const response = await post("/v1/services", key, serviceBody("never"));
  expect(response.status).toBe(422);
  expect(await countServices("never")).toBe(0);
});

it("does not store a brief conflict, so its key can be used again", async () => {
  const caller = await authenticate(test.ctx, test.adminToken);
  const app = new Hono<ApiEnv>();
  app.use((c, next) => {
    c.set("caller", caller);
    c.set("bearerSecret", test.adminToken);
    return next();
  });
  let calls = 0;
  const handler = withIdempotencyKey(test.ctx, () => async (c) => {
    calls += 1;
    if (calls === 1)
      throw new AppError("state-conflict", { detail: "Retry it.", retryAfterMs: 1_000 });
    return c.json({ calls }, 201);
  });
  app.post("/x", (c) => handler(c as ApiContext));
  const send = () => app.request("/x", { method: "POST", headers: { "idempotency-key": "brief" } });
  const refused = await send();
  expect(refused.status).toBe(409);
  expect(refused.headers.get("retry-after")).toBe("1");
  expect((await send()).status).toBe(201);
  const replayed = await send();
  expect(await replayed.json()).toEqual({ calls: 2 });
  expect(replayed.headers.get("idempotency-replayed")).toBe("true");
});

describe("runIdempotent", () => {
  const request = (key: string) => ({ scope: "tok_test", key, requestHash: "hash" });

  it("rolls everything back and enqueues nothing if the answer is not final", async () => {
    const jobsBefore = test.enqueued.length;
    const work = (isFinal: boolean) =>
      runIdempotent(test.ctx, request("fault"), async (ctx) => {
        await createTenant(ctx, createTenantBody.parse({ name: "half-made" }));
        await unitOfWork(ctx, async (tx) => {
          tx.enqueue({ name: "place-sets", jobId: "x", payload: { cause: "test" } });
        });
        return { answer: { status: isFinal ? 201 : 500, body: "answer" }, isFinal };
      });
    expect(await work(false)).toMatchObject({ isReplay: false, answer: { status: 500 } });
    expect(await test.api.findTenantId("half-made")).toBeUndefined();
    expect(test.enqueued.length).toBe(jobsBefore);
    expect(await work(true)).toMatchObject({ isReplay: false, answer: { status: 201 } });
    expect(await test.api.findTenantId("half-made")).toBeDefined();
    expect(test.enqueued.length).toBe(jobsBefore + 1);
    expect(await work(true)).toMatchObject({ isReplay: true, answer: { status: 201 } });
  });

  it("leaves neither key nor effect when it throws", async () => {
    const crash = runIdempotent(test.ctx, request("crash"), async (ctx) => {
      await createTenant(ctx, createTenantBody.parse({ name: "crashed" }));
      throw new Error("the process dies here");
    });
    await expect(crash).rejects.toThrow("the process dies here");
    expect(await test.api.findTenantId("crashed")).toBeUndefined();
    const rows = await queryRows(
      test.ctx.db,
      sql`select key from idempotency_keys where key = 'crash'`,
    );
    expect(rows).toHaveLength(0);
  });

  it("enqueues jobs and publishes signals after the commit, when their effect is visible", async () => {
    const seen: (string | undefined)[] = [];
    const ctx = {
      ...test.ctx,
      jobQueue: {
        enqueue: async () => {
          seen.push(await test.api.findTenantId("held-back"));
        },
      },
    };
    await runIdempotent(ctx, request("held-back"), async (txCtx) => {
      await createTenant(txCtx, createTenantBody.parse({ name: "held-back" }));
      await unitOfWork(txCtx, async (tx) => {
        tx.enqueue({ name: "place-sets", jobId: "y", payload: { cause: "test" } });
      });
      return { answer: { status: 200, body: "" }, isFinal: true };
    });
    expect(seen).toEqual([expect.stringMatching(/^tnt_/)]);
  });
});

it("deletes keys after their retention time, and not earlier", async () => {
  await post("/v1/services", "old", serviceBody("old"));
  await createRetention(test.ctx).run();
  expect((await post("/v1/services", "old", serviceBody("old"))).status).toBe(201);
  await test.ctx.db.execute(
    sql`update idempotency_keys set created_at = now() - interval '25 hours' where key = 'old'`,
  );
  await createRetention(test.ctx).run();
  expect((await post("/v1/services", "old", serviceBody("old"))).status).toBe(409);
});
