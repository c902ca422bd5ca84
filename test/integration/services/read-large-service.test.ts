import { afterAll, beforeAll, expect, it } from "vitest";
import { createServiceReader } from "../../../src/control/services/get-service.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";

/** More sets than a read by key counts. */
const LARGE_REPLICAS = 600;

let api: TestApi;
let tenantId: string;

beforeAll(async () => {
  api = await createTestApi();
  const token = await api.tokenOf("tenant", "food");
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

it("I15: readers of a large service share its reads, and see each earlier change", async () => {
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
