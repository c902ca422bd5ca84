import { sql } from "drizzle-orm";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import {
  type Db,
  type DbHandle,
  dbForKeyReads,
  openPostgres,
  type Queryable,
} from "../../../src/db/postgres/open-postgres.ts";
import { openClientSource } from "../../../src/db/postgres/open-client.ts";
import { ConnectionPool, type PoolOptions } from "../../../src/db/postgres/connection-pool.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { createTestDatabase, type TestDatabase } from "../../support/servers/test-services.ts";

/** Four of ten connections run transactions. */
const connectionsMax = 10;
let database: TestDatabase;
let handle: DbHandle;
beforeAll(async () => {
  database = await createTestDatabase();
  handle = openPostgres({
    databaseUrl: database.url,
    connectionsMax,
    statementTimeoutMs: 10_000,
  });
  await handle.db.execute(sql`create table marks (id int primary key)`);
});
afterAll(async () => {
  await handle.close();
  await database.drop();
});

const openPool = (size: number, options: Partial<PoolOptions> = {}) =>
  new ConnectionPool({
    size,
    source: openClientSource(database.url, "berth-test"),
    settings: {},
    inFlightMax: 1,
    queue: { waitersMax: 1_000, waitersPerOwnerMax: 1_000, waitMaxMs: 10_000 },
    answerTimeoutMs: 10_000,
    ...options,
  });

/**
 * The driver pipelines up to a hundred prepared statements on a busy connection. If its own `begin`
 * is the hundredth, it does not reserve the connection. Then the transaction fails and stays open,
 * and loses the writes of others on that connection until its idle timeout. So the test tries each
 * position around that bound.
 */
test("transactions that begin behind hundreds of statements keep their connection, and no write is lost", async () => {
  const { db } = handle;
  let nextId = 0;
  const insert = (q: Queryable) => q.execute(sql`insert into marks values (${nextId++})`);
  const pipelined = dbForKeyReads(db);
  // From the second time on, a connection knows the statement and sends more of it without waiting.
  for (let warmUp = 0; warmUp < 5; warmUp++)
    await Promise.all(Array.from({ length: 40 }, () => insert(pipelined)));

  for (let behind = 90 * connectionsMax; behind <= 110 * connectionsMax; behind += 5) {
    const outcomes = Promise.allSettled(Array.from({ length: behind }, () => insert(pipelined)));
    // All statements have reached the driver, and none has an answer, which needs I/O.
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    const transactions = Array.from({ length: 20 }, () => withTx(db, insert));
    const all = [...(await outcomes), ...(await Promise.allSettled(transactions))];
    expect(all.filter(({ status }) => status === "rejected")).toEqual([]);
  }

  const [counted] = await queryRows<{ count: number }>(
    db,
    sql`select count(*)::int as count from marks`,
  );
  expect(counted).toEqual({ count: nextId });
  const open = await queryRows<{ state: string }>(
    db,
    sql`select state from pg_stat_activity where datname = current_database() and state like 'idle in%'`,
  );
  expect(open).toEqual([]);
});

test("more transactions than connections take turns, and each has its connection for itself", async () => {
  const { db } = handle;
  const seen = await Promise.all(
    Array.from({ length: 40 }, () =>
      withTx(db, async (tx) => {
        const ids: number[] = [];
        for (let look = 0; look < 3; look++) {
          const [row] = await queryRows<{ pid: number; xid: string }>(
            tx,
            sql`select pg_backend_pid() as pid, pg_current_xact_id()::text as xid`,
          );
          ids.push(row?.pid ?? 0, Number(row?.xid));
        }
        return ids;
      }),
    ),
  );
  for (const [pid, xid, ...rest] of seen) expect(rest).toEqual([pid, xid, pid, xid]);
  expect(new Set(seen.map(([pid]) => pid)).size).toBeLessThanOrEqual(4);
  expect(new Set(seen.map(([, xid]) => xid)).size).toBe(40);
});

/** The driver's bookkeeping of a connection must not grow with the statements that it has run. */
test("the thousandth statement of a pool with free connections costs no more than the first", async () => {
  const pool = openPool(4, { inFlightMax: 64 });
  await Promise.all([1, 2, 3, 4].map((cs) => pool.run(`select pg_sleep(${cs / 100})`)));
  const looks = vi.spyOn(Array.prototype, "indexOf");
  for (let count = 0; count < 1_000; count++) await pool.run("select 1");
  const lengths = looks.mock.contexts.map((array) => (array as unknown[]).length);
  looks.mockRestore();
  await pool.end(5);
  expect(lengths.length).toBeGreaterThan(1_000);
  expect(Math.max(...lengths)).toBeLessThan(100);
});

const endBackend = (q: Queryable, pid: number) =>
  q.execute(sql`select pg_terminate_backend(${pid}::int)`);

async function backendOf(q: Queryable): Promise<number> {
  const [row] = await queryRows<{ pid: number }>(q, sql`select pg_backend_pid() as pid`);
  return row?.pid ?? 0;
}

async function marksFrom(q: Queryable, id: number): Promise<number[]> {
  const rows = await queryRows<{ id: number }>(
    q,
    sql`select id from marks where id >= ${id} and id < ${id} + 1000000 order by id`,
  );
  return rows.map((row) => row.id);
}

test("a transaction on a lost connection has no effect, before or after the loss", async () => {
  const { db } = handle;
  const first = 3_000_000;
  for (let round = 0; round < 12; round++) {
    const id = first + 10 * round;
    const lost = withTx(db, async (tx) => {
      const pid = await backendOf(tx);
      await tx.execute(sql`insert into marks values (${id})`);
      const sleep = round % 2 === 0 ? undefined : tx.execute(sql`select pg_sleep(10)`);
      sleep?.catch(() => undefined);
      await endBackend(db, pid);
      await (sleep ?? new Promise((resolve) => setTimeout(resolve, 10))).catch(() => undefined);
      await tx.execute(sql`insert into marks values (${id + 1})`);
    });
    await expect(lost).rejects.toMatchObject({ code: "dependency-unavailable" });
    await withTx(db, (tx) => tx.execute(sql`insert into marks values (${id + 2})`));
  }
  expect(await marksFrom(db, first)).toEqual(
    Array.from({ length: 12 }, (_, i) => first + 10 * i + 2),
  );
});

test("a statement that meets the closing of an idle connection takes effect once", async () => {
  const pool = openPool(1, { idleMaxMs: 20, tickMs: 1 });
  const first = 5_000_000;
  for (let round = 0; round < 200; round++) {
    // Before, during and after the closing of the connection.
    await new Promise((resolve) => setTimeout(resolve, 15 + (round % 12)));
    const id = first + 2 * round;
    const insert = (number: number) => `insert into marks values (${number})`;
    if (round % 3 === 0) await pool.run(insert(id));
    else {
      await pool.begin(async (client) => {
        await Promise.all([client.unsafe(insert(id)), client.unsafe(insert(id + 1))]);
      });
    }
  }
  await pool.end(5);
  const expected = Array.from({ length: 200 }, (_, round) =>
    round % 3 === 0 ? [first + 2 * round] : [first + 2 * round, first + 2 * round + 1],
  );
  expect(await marksFrom(handle.db, first)).toEqual(expected.flat());
});

test.each([
  ["a server that nobody runs", (url: URL) => (url.port = "1"), "ECONNREFUSED"],
  ["a database that does not exist", (url: URL) => (url.pathname = "/nowhere"), "3D000"],
])("a transaction on %s runs once, and its error says why it failed", async (_, change, code) => {
  const url = new URL(database.url);
  change(url);
  let opened = 0;
  const pool = openPool(1, {
    source: {
      hostCount: 1,
      open: (onclose) => {
        opened++;
        const client = postgres(url.href, { max: 1, onclose, onnotice: () => undefined });
        return { client, avoidHost: () => undefined };
      },
    },
  });
  for (let round = 1; round <= 3; round++) {
    const insert = pool.begin((client) => client.unsafe("insert into marks values (0)"));
    await expect(insert).rejects.toMatchObject({ code });
    // The first connection, and one for each closed connection.
    await vi.waitFor(() => expect(opened).toBe(1 + round), { timeout: 30_000 });
  }
  await pool.end(1);
});

test("a caught error fails the transaction, unless it occurs inside a savepoint", async () => {
  const { db } = handle;
  const first = 4_000_000;
  await withTx(db, (tx) => tx.execute(sql`insert into marks values (${first})`));
  const again = (tx: Queryable) => tx.execute(sql`insert into marks values (${first})`);
  const caught = withTx(db, async (tx) => {
    await tx.execute(sql`insert into marks values (${first + 1})`);
    await again(tx).catch(() => undefined);
  });
  await expect(caught).rejects.toMatchObject({ code: "internal" });
  await withTx(db, async (tx) => {
    await tx.execute(sql`insert into marks values (${first + 2})`);
    const inner = withTx(tx as Db, async (nested) => {
      await nested.execute(sql`insert into marks values (${first + 3})`);
      await again(nested);
    });
    await expect(inner).rejects.toMatchObject({ code: "internal" });
    await withTx(tx as Db, (nested) =>
      nested.execute(sql`insert into marks values (${first + 4})`),
    );
  });
  expect(await marksFrom(db, first)).toEqual([first, first + 2, first + 4]);
});

const insertMark = (q: Queryable, id: number) =>
  queryRows<{ id: number }>(q, sql`insert into marks values (${id}) returning id`);

test.each(["shared out", "one"])(
  "the last statements of a transaction are stored with the others, or all of them fail (connections: %s)",
  async (connections) => {
    const isOne = connections === "one";
    const of = isOne ? openOne() : handle;
    const first = isOne ? 7_000_000 : 8_000_000;
    const endWith = (...ids: number[]) =>
      withLastStatements(
        of.db,
        (tx) => insertMark(tx, first + 10 * (ids[0] ?? 0)),
        async (tx) => {
          const each = ids.map(async (id) => {
            for (let turn = 0; turn < 50; turn++) await Promise.resolve(); // like composed queries
            return insertMark(tx, first + id);
          });
          return (await Promise.all(each)).flat();
        },
      );
    expect(await endWith(1, 2)).toEqual([{ id: first + 1 }, { id: first + 2 }]);
    await expect(endWith(3, 4, 1)).rejects.toMatchObject({ code: "internal" });
    await expect(endWith(2, 5)).rejects.toMatchObject({ code: "internal" });
    expect(await endWith(6)).toEqual([{ id: first + 6 }]);
    expect(await marksFrom(handle.db, first)).toEqual([1, 2, 6, 10, 60].map((id) => first + id));
    if (isOne) await of.close();
  },
);

async function withLastStatements<T>(
  db: Db,
  work: (tx: Queryable) => Promise<unknown>,
  last: (tx: Queryable) => Promise<T>,
): Promise<T> {
  let transaction: Queryable | undefined;
  let answer: Promise<T> | undefined;
  const sendLast = () => {
    if (!transaction) throw new Error("no transaction");
    answer = last(transaction);
    return [answer];
  };
  await withTx(
    db,
    async (tx) => {
      transaction = tx;
      await work(tx);
    },
    { sendLast },
  );
  if (!answer) throw new Error("the last statements were not sent");
  return answer;
}

const openOne = () =>
  openPostgres({ databaseUrl: database.url, connectionsMax: 1, statementTimeoutMs: 10_000 });

test("a statement after the commit is refused", async () => {
  const { db } = handle;
  const first = 9_000_000;
  const late = withLastStatements(
    db,
    async () => undefined,
    async (tx) => {
      await insertMark(tx, first);
      await insertMark(tx, first + 1);
    },
  );
  await expect(late).rejects.toMatchObject({
    cause: { message: "the transaction is over: a statement came too late for it" },
  });
  expect(await marksFrom(db, first)).toEqual([first]);
});

test("a transaction in flight at the end of its pool takes effect completely", async () => {
  const pool = openPool(2);
  const first = 10_000_000;
  const slow = pool.begin(async (client) => {
    for (let id = first; id < first + 4; id++) {
      await client.unsafe(`insert into marks select ${id} from pg_sleep(0.05)`);
    }
  });
  await pool.run("select 1");
  await Promise.all([slow, pool.end(5)]);
  expect(await marksFrom(handle.db, first)).toHaveLength(4);
});

test("a transaction that throws has no effect, and the next one can use its connection", async () => {
  const { db } = handle;
  for (let round = 0; round < 5; round++) {
    const failing = withTx(db, async (tx) => {
      await tx.execute(sql`insert into marks values (1000000)`);
      throw new Error("after the insert");
    });
    await expect(failing).rejects.toThrow("after the insert");
  }
  const refused = withTx(db, (tx) => tx.execute(sql`insert into marks values (0)`));
  await expect(refused).rejects.toMatchObject({ code: "internal" });
  await withTx(db, (tx) => tx.execute(sql`insert into marks values (2000000)`));
  const rows = await queryRows<{ id: number }>(db, sql`select id from marks where id >= 1000000`);
  expect(rows.filter(({ id }) => id < 3_000_000)).toEqual([{ id: 2_000_000 }]);
});
