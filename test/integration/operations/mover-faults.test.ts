import { type SQL, sql } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import { expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import type { ControlContext } from "../../../src/control/runtime/context.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { moveSet } from "../../../src/control/sets/move-set.ts";
import { type FleetContext, serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

/** Rounds of the mover in which a statement or a service fails. */

const start = fleetPerTest();
const dialect = new PgDialect();

/** The context with a database that passes each statement outside of transactions to `onSql`. */
function watchStatements(ctx: ControlContext, onSql: (text: string) => void): ControlContext {
  const db = new Proxy(ctx.db, {
    get(target, key): unknown {
      const value: unknown = Reflect.get(target, key, target);
      if (key !== "execute")
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      return (query: SQL) => {
        onSql(dialect.sqlToQuery(query).sql);
        return target.execute(query);
      };
    },
  });
  return { ...ctx, db };
}

/** Services of one ready set each on host h1, and an empty host h2. Returns the sets. */
async function runServices(f: FleetContext, names: readonly string[]) {
  const h1 = await f.enroll("h1");
  for (const name of names) await createService(f.ctx, f.tenantId, serviceBody(name));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  await f.enroll("h2");
  return { h1, sets: await listLiveSets(f) };
}

test.each([
  ["listDecidedReplacements", `where outcome is not null order by "setId"`, 1],
  ["cancelDrainMoves", "o.owner = 'drain' and o.phase = 'waiting'", 1],
  ["insertDrainMoves", "'move', 'waiting', 'drain', h.id", 1],
  ["listServicesWithDueOperations", "select distinct o.service_id", 0],
])(
  "a round ends without an error when %s fails, and takes its other steps",
  async (_statement, part, steps) => {
    const f = await start();
    const { sets } = await runServices(f, ["web"]);
    await moveSet(f.ctx, f.tenantId, sets[0]?.id ?? "");
    let failures = 0;
    const faulty = watchStatements(f.ctx, (text) => {
      if (!text.includes(part)) return;
      failures++;
      throw new Error("the statement fails");
    });
    expect(await createMover(faulty).moveSets()).toBe(steps);
    expect(failures).toBe(1);
    expect(await createMover(f.ctx).moveSets()).toBe(1 - steps);
  },
);

test("a service that fails does not make the mover read the whole fleet again", async () => {
  const f = await start();
  const { h1 } = await runServices(f, ["web", "other"]);
  let loads = 0;
  const watched = watchStatements(f.ctx, (text) => {
    if (/from hosts where id > \$\d+ order by id/.test(text)) loads++;
  });
  const mover = createMover(watched);
  await drainHost(f.ctx, h1);
  await f.ctx.db.transaction(async (tx) => {
    await tx.execute(sql`select id from services where name = 'web' for update`);
    expect(await mover.moveSets()).toBe(1);
  });
  expect(await mover.moveSets()).toBe(1);
  expect(loads).toBe(1);
});

test("a round of the mover ends with its signal or after its time, and the next one continues", async () => {
  const f = await start();
  const { sets } = await runServices(f, ["web-1", "web-2", "web-3"]);
  for (const { id } of sets) await moveSet(f.ctx, f.tenantId, id);
  const mover = createMover(f.ctx, { partMsMax: 0 });
  expect(await mover.moveSets(AbortSignal.abort())).toBe(0);
  for (const _ of sets) expect(await mover.moveSets()).toBe(1);
  expect(await mover.moveSets()).toBe(0);
});
