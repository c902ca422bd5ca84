import { type SQL, sql } from "drizzle-orm";
import { PgDialect } from "drizzle-orm/pg-core";
import { expect, test } from "vitest";
import { drainHost } from "../../../src/control/hosts/drain-host.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import type { ControlContext } from "../../../src/control/runtime/context.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { moveSet } from "../../../src/control/sets/move-set.ts";
import type { Db } from "../../../src/db/postgres/open-postgres.ts";
import { insertClaims } from "../../../src/db/queries/operations/claims.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, serviceBody, smallHost } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { listLiveSets, obeyOrders } from "../../support/fleet/live-sets.ts";

/** Rounds of the mover in which a statement or a service fails. */

const start = fleetPerTest();
const dialect = new PgDialect();

/** The context with a database that passes the text of each statement to `onSql`. */
function watchStatements(ctx: ControlContext, onSql: (text: string) => void): ControlContext {
  return { ...ctx, db: watchDb(ctx.db, onSql) };
}

function watchDb<T extends Pick<Db, "execute" | "transaction">>(
  db: T,
  onSql: (text: string) => void,
): T {
  return new Proxy(db, {
    get(target, key): unknown {
      const value: unknown = Reflect.get(target, key, target);
      if (key === "execute")
        return (query: SQL) => {
          onSql(dialect.sqlToQuery(query).sql);
          return target.execute(query);
        };
      if (key === "transaction")
        return (work: Parameters<Db["transaction"]>[0]) =>
          target.transaction((tx) => work(watchDb(tx, onSql)));
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Services of ready sets on host h1, and an empty host h2. Returns the sets. */
async function runServices(f: FleetContext, names: readonly string[], replicas = 1) {
  const h1 = await f.enroll("h1", {
    allocatable: { ...smallHost, cpuMillis: 8_000, memoryBytes: 2 ** 34 },
  });
  for (const name of names) await createService(f.ctx, f.tenantId, serviceBody(name, { replicas }));
  await f.placer.placeSets();
  await obeyOrders(f, h1);
  await f.enroll("h2");
  return { h1, sets: await listLiveSets(f) };
}

test.each([
  ["listServicesWithDecidedReplacements", `select distinct "serviceId" as id`, 1],
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

/** Services "web-1" to "web-3" of `replicas` sets whose moves are requested, by their ids. */
async function moveAll(f: FleetContext, replicas = 1) {
  const { sets } = await runServices(f, ["web-1", "web-2", "web-3"], replicas);
  for (const { id } of sets) await moveSet(f.ctx, f.tenantId, id);
  return queryRows<{ id: string; name: string }>(
    f.ctx.db,
    sql`select id, name from services order by id`,
  );
}

/** The services with an operation in this phase, each once per operation. */
async function listPhase(f: FleetContext, phase: string): Promise<string[]> {
  const rows = await queryRows<{ name: string }>(
    f.ctx.db,
    sql`select v.name from operations o join services v on v.id = o.service_id where o.phase = ${phase} order by v.id`,
  );
  return rows.map(({ name }) => name);
}

const lockOfService = "lock_timeout', $";

test("a round stops before its next service when its signal aborts", async () => {
  const f = await start();
  const [, , third] = await moveAll(f);
  const caller = new AbortController();
  let locks = 0;
  const watched = watchStatements(f.ctx, (text) => {
    if (text.includes(lockOfService) && ++locks === 2) caller.abort();
  });
  const mover = createMover(watched);
  expect(await mover.moveSets(caller.signal)).toBe(2);
  expect(locks).toBe(2);
  expect(await listPhase(f, "waiting")).toEqual([third?.name]);
  expect(await mover.moveSets()).toBe(1); // the next round continues
});

/** Makes the moves of all sets wait past their deadline. */
async function expireMoves(f: FleetContext): Promise<void> {
  await f.ctx.db.execute(
    sql`update operations set deadline_at = now() - interval '1 s', due_at = now() + interval '1 hour'`,
  );
}

test("an aborted round expires no operations of its next service", async () => {
  const f = await start();
  const [, , third] = await moveAll(f, 2);
  await expireMoves(f);
  const caller = new AbortController();
  let locks = 0;
  const watched = watchStatements(f.ctx, (text) => {
    if (text.includes(lockOfService) && ++locks === 2) caller.abort();
  });
  expect(await createMover(watched).moveSets(caller.signal)).toBe(0);
  expect(await listPhase(f, "waiting")).toEqual([third?.name, third?.name]);
});

/** Runs `work` while another transaction has locked the service. */
async function withLockedService(f: FleetContext, id: string, work: () => Promise<void>) {
  await f.ctx.db.transaction(async (tx) => {
    await tx.execute(sql`select id from services where id = ${id} for update`);
    await work();
  });
}

test("a round without time expires the operations of one service, and the next one continues", async () => {
  const f = await start();
  const [first, , third] = await moveAll(f, 2);
  await expireMoves(f);
  const mover = createMover(f.ctx, { roundMsMax: 0 });
  await withLockedService(f, first?.id ?? "", async () => {
    await mover.moveSets();
    expect(await listPhase(f, "waiting")).toHaveLength(6);
    await mover.moveSets();
    const rest = [first, third].flatMap((service) => [service?.name, service?.name]);
    expect(await listPhase(f, "waiting")).toEqual(rest);
  });
  for (let round = 0; round < 2; round++) await mover.moveSets();
  expect(await listPhase(f, "waiting")).toEqual([]);
});

test("a round without time begins the moves of one service, and the next one continues", async () => {
  const f = await start();
  const [first, second] = await moveAll(f);
  const mover = createMover(f.ctx, { roundMsMax: 0 });
  await withLockedService(f, first?.id ?? "", async () => {
    expect(await mover.moveSets()).toBe(0);
    expect(await mover.moveSets()).toBe(1);
    expect(await listPhase(f, "replacing")).toEqual([second?.name]);
  });
  expect(await mover.moveSets()).toBe(1);
  expect(await listPhase(f, "waiting")).toEqual([first?.name]);
  expect(await mover.moveSets()).toBe(1);
});

test("a service that is locked does not keep a round from ending the replacements of others", async () => {
  const f = await start();
  const [first, , third] = await moveAll(f);
  expect(await createMover(f.ctx).moveSets()).toBe(3);
  await f.placer.placeSets();
  for (const { id } of await queryRows<{ id: string }>(f.ctx.db, sql`select id from hosts`))
    await obeyOrders(f, id);
  const mover = createMover(f.ctx, { roundMsMax: 0 });
  await withLockedService(f, first?.id ?? "", async () => {
    expect(await mover.moveSets()).toBe(0);
    expect(await mover.moveSets()).toBe(1);
    expect(await listPhase(f, "replacing")).toEqual([first?.name, third?.name]);
  });
});

test("a round without time ends the claims of one host, and the next one continues", async () => {
  const f = await start();
  const { sets } = await runServices(f, ["web-1", "web-2", "web-3"]);
  const amounts = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 0 };
  const hostIds = await Promise.all(["h3", "h4", "h5"].map((name) => f.enroll(name)));
  // The sets leave no host, so these claims have ended.
  const claims = sets.map(({ id }, index) => ({ setId: id, hostId: hostIds[index] ?? "" }));
  await insertClaims(
    f.ctx.db,
    claims.map((claim) => ({ ...claim, ...amounts })),
  );
  const count = () => queryRows(f.ctx.db, sql`select set_id from claims`);
  const mover = createMover(f.ctx, { roundMsMax: 0 });
  for (const remaining of [2, 1, 0]) {
    await mover.moveSets();
    expect(await count()).toHaveLength(remaining);
  }
});
