import { sql } from "drizzle-orm";
import { beforeEach, expect, test } from "vitest";
import { createRetention } from "../../../src/control/events/retention.ts";
import { claimOutbox } from "../../../src/db/queries/runtime/outbox.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import type { FleetContext } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";

const start = fleetPerTest();
let f: FleetContext;
beforeEach(async () => {
  f = await start();
  await f.ctx.db.execute(sql`delete from outbox`);
});

const insertRows = (name: string, count: number, { attempts = 0, days = 1 } = {}) =>
  f.ctx.db.execute(sql`
    insert into outbox (name, job_id, payload, due_at, attempts)
    select ${name}, ${name} || n, '{"cause":"test"}', now() - make_interval(days => ${days}::int), ${attempts}::int
    from generate_series(1, ${count}::int) n`);

test("a claim reads neither parked rows nor rows of unknown jobs", async () => {
  await insertRows("place-sets", 3_000, { attempts: 20, days: 3 });
  await insertRows("job-of-another-release", 3_000, { days: 3 });
  await insertRows("place-sets", 2);
  await f.ctx.db.execute(sql`analyze outbox`);
  await withTx(f.ctx.db, async (tx) => {
    const before = await rowsReadOf(tx, "outbox");
    expect(await claimOutbox(tx, ["place-sets", "move-sets"], 10)).toHaveLength(2);
    expect((await rowsReadOf(tx, "outbox")) - before).toBeLessThan(100);
  });
});

test("retention deletes old parked rows and old rows of unknown jobs, and no work of this release", async () => {
  await insertRows("place-sets", 1, { attempts: 20, days: 15 });
  await insertRows("job-of-another-release", 1, { days: 15 });
  await insertRows("job-of-a-newer-release", 1, { days: 13 });
  await insertRows("place-sets", 1, { days: 15 });
  await createRetention(f.ctx).run();
  const left = await queryRows<{ name: string; attempts: number }>(
    f.ctx.db,
    sql`select name, attempts from outbox order by name`,
  );
  expect(left).toEqual([
    { name: "job-of-a-newer-release", attempts: 0 },
    { name: "place-sets", attempts: 0 },
  ]);
});
