import postgres from "postgres";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { readEventsAfter } from "../../../src/control/events/stream-events.ts";
import {
  readEventStreamLag,
  watchEventStreamLag,
} from "../../../src/control/events/event-stream-lag.ts";
import { EventTail } from "../../../src/control/events/event-tail.ts";
import { streamEvents } from "../../../src/routes/events/stream-events.ts";
import { createTestApi, serviceBody, type TestApi } from "../../support/api/test-api.ts";
import { waitUntil } from "../../support/wait-until.ts";

let test: TestApi;
let sql: postgres.Sql;
beforeAll(async () => {
  test = await createTestApi();
  sql = postgres(test.databaseUrl, { max: 4 });
});
afterAll(async () => {
  await sql.end();
  await test.close();
});

const insertEvent = (client: postgres.Sql | postgres.ReservedSql, text: string) =>
  client`insert into events (kind, text) values ('service-changed', ${text})`;
const noFilter = {};

/**
 * Waits for `count` events after `cursor`, and returns their texts. Reads pages of `pageLength`,
 * and one more page for surplus events. The wait is necessary because running transactions of other
 * databases on the server delay events.
 */
async function readUntil(cursor: string, count: number, pageLength = 100): Promise<string[]> {
  const texts: string[] = [];
  let next = cursor;
  const readPage = async () => {
    const read = await readEventsAfter(test.ctx, null, noFilter, next, pageLength);
    texts.push(...read.events.map(({ event }) => event.text));
    next = read.cursor;
  };
  await waitUntil(`${count} events have come`, async () => {
    await readPage();
    return texts.length >= count;
  });
  await readPage();
  return texts;
}

it("returns an event of a late commit once", async () => {
  const start = await readEventsAfter(test.ctx, null, noFilter, undefined, 100);
  const late = await sql.reserve();
  await late`begin`;
  await insertEvent(late, "begun first, committed last");
  await insertEvent(sql, "begun last, committed first");
  const during = await readEventsAfter(test.ctx, null, noFilter, start.cursor, 100);
  await late`commit`;
  late.release();
  const texts = during.events.map(({ event }) => event.text);
  texts.push(...(await readUntil(during.cursor, 2 - texts.length)));
  expect(texts).toEqual(["begun first, committed last", "begun last, committed first"]);
});

it("returns each event once and in order, with pages of any length", async () => {
  const start = await readEventsAfter(test.ctx, null, noFilter, undefined, 100);
  const wanted = Array.from({ length: 25 }, (_unused, index) => `paged ${index}`);
  for (const text of wanted.slice(0, 10)) await insertEvent(sql, text);
  await sql.begin(async (tx) => {
    for (const text of wanted.slice(10)) {
      await tx`insert into events (kind, text) values ('service-changed', ${text})`;
    }
  });
  const seen = await readUntil(start.cursor, wanted.length, 3);
  expect(seen).toEqual(wanted);
});

it("returns no event of a rolled back transaction, which delays no other event", async () => {
  const start = await readEventsAfter(test.ctx, null, noFilter, undefined, 100);
  await sql
    .begin(async (tx) => {
      await tx`insert into events (kind, text) values ('service-changed', 'never')`;
      throw new Error("rolled back");
    })
    .catch(() => undefined);
  await insertEvent(sql, "after the rollback");
  const texts = await readUntil(start.cursor, 1);
  expect(texts).toEqual(["after the rollback"]);
});

it.each(["18446744073709551616.1", "1.9223372036854775808", "99999999999999999999.0"])(
  "answers 422 to the cursor %s, which is out of range",
  async (after) => {
    const response = await test.request("GET", `/v1/events?after=${after}`, {
      token: test.adminToken,
      headers: { accept: "text/event-stream" },
    });
    expect(response.status).toBe(422);
  },
);

it("streams the events of the caller's tenant from Last-Event-ID until the reader disconnects", async () => {
  const acme = await test.tokenOf("tenant", "acme");
  const other = await test.tokenOf("tenant", "globex");
  const abort = new AbortController();
  const open = (lastEventId?: string) =>
    test.request("GET", "/v1/events", {
      token: acme,
      signal: abort.signal,
      headers: {
        accept: "text/event-stream",
        ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
      },
    });
  const first = await open();
  expect(first.headers.get("content-type")).toContain("text/event-stream");
  await test.request("POST", "/v1/services", { token: other, body: serviceBody("theirs") });
  await test.request("POST", "/v1/services", { token: acme, body: serviceBody("mine") });
  const messages = await readMessages(first, 1);
  expect(messages[0]?.data).toMatchObject({ kind: "service-created", service: "mine" });
  abort.abort();

  const again = new AbortController();
  await test.request("POST", "/v1/services/mine/scale", { token: acme, body: { replicas: 5 } });
  const second = await test.request("GET", "/v1/events", {
    token: acme,
    signal: again.signal,
    headers: { accept: "text/event-stream", "last-event-id": messages[0]?.id ?? "" },
  });
  const rest = await readMessages(second, 1);
  expect(rest[0]?.data).toMatchObject({ kind: "service-scaled", service: "mine" });
  again.abort();
});

it("sends heartbeats on an idle stream, and ends it after its lifetime", async () => {
  const limits = { lifetimeMs: 2_500, heartbeatMs: 500 };
  const never = new AbortController().signal;
  const filter = { service: "no-such-service" };
  const stream = await streamEvents(
    test.ctx,
    new EventTail(test.ctx),
    null,
    filter,
    undefined,
    never,
    limits,
  );
  const text = await new Response(stream).text();
  expect(text).toContain(": heartbeat\n");
  expect(text).not.toContain("data:");
});

it("I16: sends heartbeats on an idle stream after the wall clock was set back", async () => {
  const limits = { lifetimeMs: 2_500, heartbeatMs: 500 };
  const never = new AbortController().signal;
  const filter = { service: "no-such-service" };
  const tail = new EventTail(test.ctx);
  const stream = await streamEvents(test.ctx, tail, null, filter, undefined, never, limits);
  const now = Date.now;
  const wallClock = vi.spyOn(Date, "now").mockImplementation(() => now() - 3_600_000);
  try {
    expect(await new Response(stream).text()).toContain(": heartbeat\n");
  } finally {
    wallClock.mockRestore();
  }
});

it("lists events from the newest to the oldest", async () => {
  const token = await test.tokenOf("tenant", "pages");
  for (const name of ["one", "two", "three"]) {
    await test.request("POST", "/v1/services", { token, body: serviceBody(name, { replicas: 0 }) });
  }
  const services: (string | null)[] = [];
  let cursor: string | null = "";
  while (cursor !== null) {
    const query: string = cursor === "" ? "" : `&cursor=${cursor}`;
    const response = await test.request("GET", `/v1/events?limit=1${query}`, { token });
    const page = (await response.json()) as {
      items: { service: string | null }[];
      nextCursor: string | null;
    };
    services.push(...page.items.map((event) => event.service));
    cursor = page.nextCursor;
  }
  expect(services).toEqual(["three", "two", "one"]);
});

interface Message {
  id: string;
  data: unknown;
}

/** Reads until `count` messages with data have arrived, or until the test times out. */
async function readMessages(response: Response, count: number): Promise<Message[]> {
  const messages: Message[] = [];
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk as Uint8Array, { stream: true });
    const parts = text.split("\n\n");
    text = parts.pop() ?? "";
    for (const part of parts) {
      const data = /^data: (.*)$/m.exec(part)?.[1];
      const id = /^id: (.*)$/m.exec(part)?.[1] ?? "";
      if (data !== undefined) messages.push({ id, data: JSON.parse(data) });
    }
    if (messages.length >= count) break;
  }
  return messages;
}

it("passes many events in bounded reads if the filter of a stream matches none", async () => {
  const start = await readEventsAfter(test.ctx, null, noFilter, undefined, 100);
  await sql`insert into events (kind, text) select 'set-running', 'one of many' from generate_series(1, 5000)`;
  await insertEvent(sql, "the last");
  const [last] = await sql<{ xid: string }[]>`select xid::text from events where text = 'the last'`;
  const filter = { kind: "host-lost" } as const;
  let { cursor } = start;
  let reads = 0;
  await waitUntil("the stream has passed over all events", async () => {
    const read = await readEventsAfter(test.ctx, null, filter, cursor, 100);
    expect(read.events).toEqual([]);
    cursor = read.cursor;
    reads++;
    // Running transactions of other databases on the server delay events.
    return BigInt(cursor.split(".")[0] ?? 0) >= BigInt(last?.xid ?? 0);
  });
  expect(reads).toBeGreaterThanOrEqual(3);
  const after = await readEventsAfter(test.ctx, null, noFilter, cursor, 100);
  expect(after.events.map(({ event }) => event.text)).not.toContain("the last");
});

it("finds a rare kind by its index among many events of sets", async () => {
  await sql`insert into events (kind, text) select 'set-running', 'one of many' from generate_series(1, 20000)`;
  await sql`insert into events (kind, text) values ('host-lost', 'the rare one')`;
  await sql`insert into events (kind, text) select 'set-running', 'one of many' from generate_series(1, 20000)`;
  await sql`analyze events`;
  const response = await test.request("GET", "/v1/events?kind=host-lost&limit=1", {
    token: test.adminToken,
  });
  expect(await response.json()).toMatchObject({ items: [{ text: "the rare one" }] });
  const [plan] = await sql`explain (format json) select e.id from events e
    where e.kind = 'host-lost' order by e.id desc limit 2`;
  expect(JSON.stringify(plan)).toContain("events_rare_kind");
});

it("shares one read of each event between the streams of a process, without loss for slow readers", async () => {
  let reads = 0;
  const tail = new EventTail(test.ctx, (...args) => {
    reads++;
    return readEventsAfter(...args);
  });
  const abort = new AbortController();
  const open = (after?: string) =>
    streamEvents(test.ctx, tail, null, { kind: "host-lost" }, after, abort.signal);
  const readers = (await Promise.all(Array.from({ length: 100 }, () => open()))).map((stream) =>
    new Response(stream).body?.getReader(),
  );
  const texts = Array.from({ length: 30 }, (_unused, index) => `shared ${index}`);
  const seen = readers.map(() => "");
  const decoder = new TextDecoder();
  const readUntilText = async (index: number, text: string): Promise<void> => {
    const isSeen = () => seen[index]?.includes(`"${text}"`) ?? false;
    while (!isSeen()) {
      const { value, done } = (await readers[index]?.read()) ?? { done: true };
      if (done) throw new Error("the stream ended");
      seen[index] += decoder.decode(value as Uint8Array);
    }
  };
  const quick = readers.map((_reader, index) => index).slice(1);
  for (const text of texts) {
    await sql`insert into events (kind, text) values ('host-lost', ${text})`;
    await test.ctx.signals.publish(["events"]);
    await Promise.all(quick.map((index) => readUntilText(index, text)));
  }
  // Each stream would read each of the 30 events: 3,000 reads.
  expect(reads).toBeLessThan(2_000);
  // More events than the tail holds in memory: the slow reader continues from the database.
  await sql`insert into events (kind, text) select 'set-running', 'noise' from generate_series(1, 5000)`;
  await sql`insert into events (kind, text) values ('host-lost', 'the end')`;
  await Promise.all(readers.map((_reader, index) => readUntilText(index, "the end")));
  for (const text of texts) {
    expect(seen.filter((stream) => stream.split(`"${text}"`).length === 2)).toHaveLength(100);
  }
  abort.abort();
}, 120_000);

it("shows an old transaction that delays events as a number and a warning", async () => {
  const warnings: unknown[] = [];
  const log = { ...test.ctx.log, warn: (fields: unknown) => warnings.push(fields) };
  const other = postgres(test.databaseUrl, {
    max: 1,
    connection: { application_name: "batch-job" },
  });
  const old = await other.reserve();
  await old`begin`;
  await insertEvent(old, "of an old transaction");
  await sql`insert into events (kind, text, at)
    values ('service-changed', 'held back', now() - interval '1 hour')`;
  await watchEventStreamLag({ db: test.ctx.db, log });
  const lag = await readEventStreamLag(test.ctx);
  await old`rollback`;
  old.release();
  await other.end();
  expect(lag.ageSeconds).toBeGreaterThan(3_000);
  expect(lag.holder).toContain("pid");
  expect(warnings).toMatchObject([{ holder: lag.holder }]);
});
