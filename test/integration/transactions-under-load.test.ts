import { sql } from "drizzle-orm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type DbHandle, openPostgres, type Queryable } from "../../src/db/client.ts";
import { rowsOf } from "../../src/db/queries/rows.ts";
import { withTx } from "../../src/db/tx.ts";
import { createTestDatabase, type TestDatabase } from "../support/services.ts";

const connectionsMax = 4;
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

/**
 * The driver sends prepared statements behind others on a busy connection, up to a hundred. Its own `begin`, when it is the
 * hundredth, does not keep the connection for itself: the transaction fails, stays open, and swallows what others write on
 * that connection until it is ended for idling. So the statement that meets the bound is tried in every position around it.
 */
test("transactions begun behind hundreds of statements keep their connection, and no write is lost", async () => {
  const { db } = handle;
  let nextId = 0;
  const insert = (q: Queryable) => q.execute(sql`insert into marks values (${nextId++})`);
  // From the second time on, a connection knows the statement and sends more of it without waiting.
  for (let warmUp = 0; warmUp < 5; warmUp++)
    await Promise.all(Array.from({ length: 40 }, () => insert(db)));

  for (let behind = 90 * connectionsMax; behind <= 110 * connectionsMax; behind += 5) {
    const outcomes = Promise.allSettled(Array.from({ length: behind }, () => insert(db)));
    // All of them have reached the driver, and none has an answer: that takes more than promises.
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    const transactions = Array.from({ length: 20 }, () => withTx(db, insert));
    const all = [...(await outcomes), ...(await Promise.allSettled(transactions))];
    expect(all.filter(({ status }) => status === "rejected")).toEqual([]);
  }

  const [counted] = await rowsOf<{ count: number }>(
    db,
    sql`select count(*)::int as count from marks`,
  );
  expect(counted).toEqual({ count: nextId });
  const open = await rowsOf<{ state: string }>(
    db,
    sql`select state from pg_stat_activity where datname = current_database() and state like 'idle in%'`,
  );
  expect(open).toEqual([]);
});

test("a transaction that throws leaves nothing behind, and its connection is good for the next", async () => {
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
  const rows = await rowsOf<{ id: number }>(db, sql`select id from marks where id >= 1000000`);
  expect(rows).toEqual([{ id: 2_000_000 }]);
});
