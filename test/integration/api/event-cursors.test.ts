import { sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { EventTail } from "../../../src/control/events/event-tail.ts";
import { type EventsAfter, readEventsAfter } from "../../../src/control/events/stream-events.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createFleetContext, type FleetContext } from "../../support/fleet/fleet-context.ts";
import { waitUntil } from "../../support/wait-until.ts";

let fleet: FleetContext;
beforeAll(async () => {
  fleet = await createFleetContext();
});
afterAll(() => fleet.close());
beforeEach(() => fleet.ctx.db.execute(sql`delete from events`));

const insertEvent = (text: string, secondsAgo = 0) =>
  fleet.ctx.db.execute(sql`insert into events (kind, text, at)
    values ('service-changed', ${text}, now() - make_interval(secs => ${secondsAgo}))`);

const read = (cursor?: string) => readEventsAfter(fleet.ctx, null, {}, cursor, 100);

/** Reads until `count` events have come. Other databases of the server delay events. */
async function readTexts(cursor: string, count: number): Promise<string[]> {
  let texts: string[] = [];
  await waitUntil(`${count} events have come`, async () => {
    texts = (await read(cursor)).events.map(({ event }) => event.text);
    return texts.length >= count;
  });
  return texts;
}

/** The cursor as if another server had given it. */
function ofFormerServer(cursor: string, changes: { xid?: string; id?: string } = {}): string {
  const [xid = "", id = "", , atMs = ""] = cursor.split(".");
  return [changes.xid ?? xid, changes.id ?? id, "1764000000000000", atMs].join(".");
}

/** The cursor after the first event, and its second event. */
async function readCursorOfFirst(): Promise<string> {
  const { cursor } = await read();
  await insertEvent("first");
  let first: EventsAfter["events"][number] | undefined;
  await waitUntil("the first event has come", async () => {
    first = (await read(cursor)).events[0];
    return first !== undefined;
  });
  return first?.cursor ?? "";
}

test("a cursor of a database that was restored from an older backup skips no event", async () => {
  const { cursor } = await read();
  await insertEvent("of the backup", 3_600);
  await insertEvent("after the restore");
  // Both numbers of the cursor are above those of the restored database.
  const former = ofFormerServer(cursor, { xid: "99999999999", id: "888888888" });
  expect(await readTexts(former, 1)).toEqual(["after the restore"]);
});

test("a cursor of an idle restored database continues with its next event", async () => {
  const { cursor } = await read();
  await insertEvent("of the backup", 3_600);
  // Other transactions can delay the event. A restored database has none of them.
  expect(await readTexts(cursor, 1)).toEqual(["of the backup"]);
  const former = ofFormerServer(cursor, { xid: "99999999999" });
  let next = (await read(former)).cursor;
  await waitUntil("the stream has caught up", async () => {
    const page = await read(next);
    next = page.cursor;
    expect(page.events).toEqual([]);
    return !page.isBehind;
  });
  await insertEvent("after the restore");
  expect(await readTexts(next, 1)).toEqual(["after the restore"]);
});

test("after a restart of the server, a cursor continues at its event without repetition", async () => {
  const cursor = await readCursorOfFirst();
  await insertEvent("second");
  expect(await readTexts(ofFormerServer(cursor), 1)).toEqual(["second"]);
});

test("a reused event id is not taken for the event of the cursor", async () => {
  const cursor = await readCursorOfFirst();
  await insertEvent("second");
  await fleet.ctx.db.execute(
    sql`update events set at = at - interval '1 second' where text = 'first'`,
  );
  expect(await readTexts(ofFormerServer(cursor), 2)).toEqual(["first", "second"]);
});

test("a cursor with very many events after it continues before all of them", async () => {
  const { cursor } = await read();
  await insertEvent("old", 3_600);
  await fleet.ctx.db.execute(sql`insert into events (kind, text)
    select 'service-changed', 'new ' || n from generate_series(1, 50000) n`);
  const former = ofFormerServer(cursor, { xid: "99999999999" });
  expect((await readTexts(former, 2)).slice(0, 2)).toEqual(["old", "new 1"]);
});

test("a cursor of an earlier release continues as before", async () => {
  const cursor = await readCursorOfFirst();
  await insertEvent("second");
  expect(await readTexts(cursor.split(".").slice(0, 2).join("."), 1)).toEqual(["second"]);
});

test("a process that follows events continues on another server", async () => {
  let isFormer = true;
  const tail = new EventTail(fleet.ctx, async (...args) => {
    const page = await readEventsAfter(...args);
    if (!isFormer) return page;
    const events = page.events.map((entry) => ({ ...entry, cursor: toFormer(entry.cursor) }));
    return { ...page, events, cursor: toFormer(page.cursor) };
  });
  const toFormer = (cursor: string) => ofFormerServer(cursor, { xid: "99999999999" });
  const stop = tail.follow();
  const texts: string[] = [];
  let cursor = (await tail.read(fleet.ctx, null, {}, undefined, 100)).cursor;
  const readNext = async () => {
    const page = await tail.read(fleet.ctx, null, {}, cursor, 100);
    texts.push(...page.events.map(({ event }) => event.text));
    cursor = page.cursor;
  };
  await readNext();
  isFormer = false;
  await insertEvent("after the failover");
  await waitUntil("the event has come", async () => {
    await readNext();
    return texts.length > 0;
  });
  await insertEvent("later");
  await waitUntil("the later event has come", async () => {
    await readNext();
    return texts.includes("later");
  });
  expect(texts).toEqual(["after the failover", "later"]);
  stop();
});

test("a cursor has the server and the time, and numbers out of range are refused", async () => {
  const [row] = await queryRows<{ epoch: string }>(
    fleet.ctx.db,
    sql`select (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text as epoch`,
  );
  expect((await read()).cursor.split(".")[2]).toBe(row?.epoch);
  for (const cursor of ["1", "1.2.3", "1.2.3.x", "18446744073709551616.1", "1.2.3.4.5"])
    await expect(read(cursor)).rejects.toMatchObject({ code: "invalid-request" });
});
