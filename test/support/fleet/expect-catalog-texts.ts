import { sql } from "drizzle-orm";
import { expect } from "vitest";
import { type EmittedEvent, renderEmittedEvent } from "../../../src/contracts/api/event-texts.ts";
import type { Queryable } from "../../../src/db/postgres/open-postgres.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";

const EVENTS_MAX = 1_000;

/**
 * Expects that each stored event has the sentence of the catalog for its data, whether SQL or
 * TypeScript wrote it. A rejection is excluded: its explanation is stored as its text only.
 */
export async function expectCatalogTexts(q: Queryable): Promise<void> {
  const events = await queryRows<EmittedEvent & { text: string }>(
    q,
    sql`select kind, text, data from events where kind <> 'set-rejected' and data <> '{}'
        order by id desc limit ${EVENTS_MAX}`,
  );
  const stored = events.map(({ kind, text }) => ({ kind, text }));
  expect(stored).toEqual(
    events.map((event) => ({ kind: event.kind, text: renderEmittedEvent(event) })),
  );
}
