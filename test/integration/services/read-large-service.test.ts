import { afterAll, beforeAll, expect, it } from "vitest";
import { findServices } from "../../../src/db/queries/services/read-services.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { createServiceReader } from "../../../src/control/services/get-service.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";

/** More sets than a read by key counts. */
const LARGE_REPLICAS = 600;

let api: TestApi;
let token: string;
let tenantId: string;

beforeAll(async () => {
  api = await createTestApi();
  token = await api.tokenOf("tenant", "food");
  tenantId = (await api.api.findTenantId("food")) ?? "";
  for (const body of [serviceBody("large", { replicas: LARGE_REPLICAS }), serviceBody("small")]) {
    const { status } = await api.request("POST", "/v1/services", { token, body });
    expect(status).toBe(201);
  }
});
afterAll(() => api.close());

function countStatements(): { db: TestApi["ctx"]["db"]; statementsOf: () => number } {
  let statements = 0;
  const { db } = api.ctx;
  const execute = (query: Parameters<typeof db.execute>[0]): unknown => {
    statements++;
    return db.execute(query);
  };
  const counting = new Proxy(db, {
    get: (target, key) => (key === "execute" ? execute : (Reflect.get(target, key) as unknown)),
  });
  return { db: counting, statementsOf: () => statements };
}

/** A database that answers its first statement, and the others once `release` is called. */
function blockAfterFirst(): { db: TestApi["ctx"]["db"]; release: () => void } {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let statements = 0;
  const { db } = api.ctx;
  const execute = async (query: Parameters<typeof db.execute>[0]): Promise<unknown> => {
    if (statements++ > 0) await released;
    return db.execute(query);
  };
  const blocking = new Proxy(db, {
    get: (target, key) => (key === "execute" ? execute : (Reflect.get(target, key) as unknown)),
  });
  return { db: blocking, release };
}

/** A database that delays the answer to its second statement until `release` is called. */
function delaySecondAnswer() {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let [sent, executed] = [0, 0];
  const { db } = api.ctx;
  const execute = async (query: Parameters<typeof db.execute>[0]): Promise<unknown> => {
    const isSecond = ++sent === 2;
    const rows: unknown = await db.execute(query);
    executed++;
    if (isSecond) await released;
    return rows;
  };
  const delaying = new Proxy(db, {
    get: (target, key) => (key === "execute" ? execute : (Reflect.get(target, key) as unknown)),
  });
  return { db: delaying, executedOf: () => executed, release };
}

it("I15: readers of a large service share its reads", async () => {
  const { statementsOf, db } = countStatements();
  const readService = createServiceReader({ ...api.ctx, db });
  const services = await Promise.all(
    Array.from({ length: 200 }, () => readService(tenantId, "large")),
  );
  expect(new Set(services.map(({ counts }) => counts.pending))).toEqual(new Set([LARGE_REPLICAS]));
  expect(statementsOf()).toBeLessThan(10);
});

it("I15: a read of a large service delays no read of another service", async () => {
  const { db, release } = blockAfterFirst();
  const readService = createServiceReader({ ...api.ctx, db });
  const large = readService(tenantId, "large");
  expect(await readService(tenantId, "small")).toMatchObject({ name: "small" });
  release();
  expect((await large).counts.pending).toBe(LARGE_REPLICAS);
});

it("I15: a reader sees each change before its call, even while an older read is in flight", async () => {
  const { db, executedOf, release } = delaySecondAnswer();
  const readService = createServiceReader({ ...api.ctx, db });
  const before = readService(tenantId, "large");
  await expect.poll(executedOf, { timeout: 30_000 }).toBe(2);
  const { status } = await api.request("PATCH", "/v1/services/large", {
    token,
    headers: { "if-match": '"1"' },
    body: { priority: 7 },
  });
  expect(status).toBe(200);
  const after = readService(tenantId, "large");
  // The later reader has found that the service is large, and waits for the read in flight.
  await expect.poll(executedOf, { timeout: 30_000 }).toBe(3);
  release();
  expect((await before).priority).toBe(100);
  expect((await after).priority).toBe(7);
});

it("a batch counts the sets of a service once, however many readers it has", async () => {
  const key = { tenantId, name: "large" };
  await withTx(api.ctx.db, async (tx) => {
    expect(await findServices(tx, [key])).toEqual(["large"]);
    const rowsOfOne = await rowsReadOf(tx, "sets");
    const keys = Array.from({ length: 100 }, () => key);
    expect(await findServices(tx, keys)).toEqual(keys.map(() => "large"));
    expect(await rowsReadOf(tx, "sets")).toBeLessThan(3 * rowsOfOne);
  });
});
