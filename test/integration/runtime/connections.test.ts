import { sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  bindWork,
  type DbHandle,
  dbForKeyReads,
  openPostgres,
} from "../../../src/db/postgres/open-postgres.ts";
import { toAppError } from "../../../src/db/errors.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { startTcpProxy, type TcpProxy } from "../../support/servers/tcp-proxy.ts";
import { createTestDatabase, type TestDatabase } from "../../support/servers/test-services.ts";
import { waitUntil } from "../../support/wait-until.ts";

let database: TestDatabase;
let proxy: TcpProxy;
let direct: DbHandle;
let handles: DbHandle[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  proxy = await startTcpProxy(database.url);
  direct = openPostgres({
    databaseUrl: database.url,
    connectionsMax: 5,
    statementTimeoutMs: 10_000,
  });
  await direct.db.execute(sql`create table marks (id int primary key)`);
});
afterAll(async () => {
  await Promise.all(handles.map((handle) => handle.close()));
  await direct.close();
  await proxy.close();
  await database.drop();
});

function openThroughProxy(options: Partial<Parameters<typeof openPostgres>[0]> = {}): DbHandle {
  const handle = openPostgres({
    databaseUrl: proxy.url,
    connectionsMax: 12,
    statementTimeoutMs: 1_000,
    ...options,
  });
  handles = [...handles, handle];
  return handle;
}

const countMarks = async (id: number): Promise<number> => {
  const rows = await queryRows(direct.db, sql`select 1 from marks where id = ${id}`);
  return rows.length;
};

/** The name and value pairs of a startup message, which has no type byte. */
function startupParameters(message: Buffer): string[] {
  const texts = message.subarray(8).toString("utf8").split("\0");
  return texts.filter((text, index) => index % 2 === 0 && text !== "");
}

test("a new connection sends no startup parameter that PgBouncer refuses, and has its settings all the same", async () => {
  const pieces = proxy.sent.length;
  const { db } = openThroughProxy();
  const rows = await queryRows<{ mode: string; timeout: string }>(
    db,
    sql`select current_setting('plan_cache_mode') as mode, current_setting('statement_timeout') as timeout`,
  );
  expect(rows).toEqual([{ mode: "force_custom_plan", timeout: "1s" }]);
  const startup = proxy.sent[pieces] ?? Buffer.alloc(0);
  const accepted = ["user", "database", "client_encoding", "application_name"];
  expect(startupParameters(startup).length).toBeGreaterThan(1);
  expect(startupParameters(startup).filter((name) => !accepted.includes(name))).toEqual([]);
});

test("a key read on a connection that the network swallowed fails within its deadline, and the next succeeds", async () => {
  const { db } = openThroughProxy({ answerMarginMs: 1_000 });
  const read = (): Promise<unknown> => queryRows(dbForKeyReads(db), sql`select 1`);
  await read();
  proxy.stall();
  const startedAtMs = performance.now();
  const error: unknown = await read().then(
    () => undefined,
    (thrown: unknown) => toAppError(thrown),
  );
  expect(error).toMatchObject({ code: "dependency-unavailable" });
  expect(performance.now() - startedAtMs).toBeLessThan(8_000);
  await read();
}, 15_000);

test("a transaction that begins on a connection that the network swallowed runs once, on another", async () => {
  const { db } = openThroughProxy({ answerMarginMs: 1_000 });
  const insert = (id: number) =>
    withTx(db, (tx) => tx.execute(sql`insert into marks values (${id})`));
  await insert(20);
  proxy.stall();
  const startedAtMs = performance.now();
  await insert(21);
  expect(performance.now() - startedAtMs).toBeLessThan(8_000);
  expect(await countMarks(21)).toBe(1);
}, 15_000);

test("a commit whose answer is lost has an unknown outcome, and its effect is stored", async () => {
  const { db } = openThroughProxy();
  // The first commit of a connection is sent as text, later ones by the name of the prepared
  // statement.
  proxy.onSent((piece, link) => {
    if (piece.includes("commit")) link.dropAnswers();
  });
  const lost = withTx(db, async (tx) => {
    await tx.execute(sql`insert into marks values (1)`);
  });
  await expect(lost).rejects.toMatchObject({ code: "outcome-unknown", retryable: true });
  proxy.onSent(() => undefined);
  expect(await countMarks(1)).toBe(1);
});

test("a transaction that is lost before its commit was sent has no effect, and says so", async () => {
  const { db } = openThroughProxy();
  proxy.onSent((piece, link) => {
    if (piece.includes("insert into marks")) link.dropAnswers();
  });
  const lost = withTx(db, async (tx) => {
    await tx.execute(sql`insert into marks values (2)`);
  });
  await expect(lost).rejects.toMatchObject({ code: "dependency-unavailable" });
  proxy.onSent(() => undefined);
  expect(await countMarks(2)).toBe(0);
});

test("a single write whose answer is lost has an unknown outcome", async () => {
  const { db } = openThroughProxy();
  await db.execute(sql`select 1`);
  proxy.onSent((piece, link) => {
    if (piece.includes("insert into marks")) link.dropAnswers();
  });
  const error: unknown = await db.execute(sql`insert into marks select 3`).then(
    () => undefined,
    (thrown: unknown) => toAppError(thrown),
  );
  expect(error).toMatchObject({ code: "outcome-unknown" });
  proxy.onSent(() => undefined);
  expect(await countMarks(3)).toBe(1);
});

/** Holds every connection that requests may use for transactions, until `release`. */
async function holdTransactions(db: DbHandle["db"], owner: string, count: number) {
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  let begun = 0;
  const held = Array.from({ length: count }, (_, index) =>
    withTx(bindWork(db, { kind: "request", owner: `${owner}-${index}` }), async (tx) => {
      await tx.execute(sql`select 1`);
      begun += 1;
      await released;
    }),
  );
  const end = async (): Promise<void> => {
    release();
    await Promise.all(held);
  };
  return { end, countBegun: () => begun };
}

test("I15: connections for agents and the placer stay available while requests use all of theirs", async () => {
  const { db } = openThroughProxy({ statementTimeoutMs: 10_000 });
  const hold = await holdTransactions(db, "tenant", 20);
  await waitUntil("the requests hold connections", async () => hold.countBegun() >= 3);
  for (const kind of ["agent", "job", "placement"] as const)
    await withTx(bindWork(db, { kind }), (tx) => tx.execute(sql`select 1`));
  expect(hold.countBegun()).toBeLessThan(20);
  await hold.end();
});

test("I15: work that is aborted or late while it waits for a connection is never run", async () => {
  const { db } = openThroughProxy({ statementTimeoutMs: 10_000 });
  const hold = await holdTransactions(db, "tenant", 12);
  await waitUntil("the requests hold connections", async () => hold.countBegun() >= 3);
  const controller = new AbortController();
  const insert = (id: number, work: object) =>
    withTx(bindWork(db, { kind: "request", owner: "late", ...work }), (tx) =>
      tx.execute(sql`insert into marks values (${id})`),
    );
  const aborted = insert(10, { signal: () => controller.signal });
  const late = insert(11, { deadlineAtMs: performance.now() + 100 });
  controller.abort();
  await expect(aborted).rejects.toMatchObject({ code: "request-timeout" });
  await expect(late).rejects.toMatchObject({ code: "overloaded" });
  await hold.end();
  await insert(12, {});
  expect(await Promise.all([10, 11, 12].map(countMarks))).toEqual([0, 0, 1]);
});

test("I15: the queue for connections has a bound for each owner, and refuses the next request immediately", async () => {
  const { db } = openThroughProxy({ statementTimeoutMs: 10_000 });
  const hold = await holdTransactions(db, "tenant", 6);
  await waitUntil("the requests hold connections", async () => hold.countBegun() >= 3);
  const work = { kind: "request" as const, owner: "greedy" };
  const outcomes = Array.from({ length: 100 }, () =>
    withTx(bindWork(db, work), (tx) => tx.execute(sql`select 1`)).then(
      () => "done",
      (error: unknown) => (toAppError(error) as { code: string }).code,
    ),
  );
  const firstRefusal = await Promise.race(outcomes);
  expect(firstRefusal).toBe("overloaded");
  await hold.end();
  const ended = await Promise.all(outcomes);
  expect(ended.filter((outcome) => outcome === "done")).toHaveLength(64);
  expect(ended.filter((outcome) => outcome === "overloaded")).toHaveLength(36);
});

test("I15: an agent gets a place in a queue that is full of requests", async () => {
  const { db } = openThroughProxy({ statementTimeoutMs: 10_000 });
  const hold = await holdTransactions(db, "tenant", 6);
  const agents = Array.from({ length: 6 }, (_, index) =>
    withTx(bindWork(db, { kind: "agent", owner: `host-${index}` }), (tx) =>
      tx.execute(sql`select pg_sleep(1)`),
    ),
  );
  const requests = Array.from({ length: 400 }, (_, index) =>
    withTx(bindWork(db, { kind: "request", owner: `tenant-${index % 100}` }), (tx) =>
      tx.execute(sql`select 1`),
    ).then(
      () => "done",
      () => "refused",
    ),
  );
  await Promise.race(requests); // a refusal: the queue of requests is full
  await withTx(bindWork(db, { kind: "agent", owner: "late" }), (tx) => tx.execute(sql`select 1`));
  await Promise.all(agents);
  await hold.end();
  expect(await Promise.all(requests)).toContain("refused");
});

test("one process uses no more connections than it may", async () => {
  const handle = openThroughProxy({ applicationName: "berth-count", statementTimeoutMs: 10_000 });
  const { db } = handle;
  await Promise.all([
    ...Array.from({ length: 40 }, () => queryRows(dbForKeyReads(db), sql`select pg_sleep(0.05)`)),
    ...Array.from({ length: 40 }, () => db.execute(sql`select pg_sleep(0.02)`)),
    ...Array.from({ length: 40 }, () => withTx(db, (tx) => tx.execute(sql`select 1`))),
  ]);
  const observer = postgres(database.url, { max: 1 });
  const [row] = await observer<{ count: number }[]>`
    select count(*)::int as count from pg_stat_activity where application_name = 'berth-count'`;
  await observer.end();
  expect(row?.count).toBeLessThanOrEqual(12);
});
