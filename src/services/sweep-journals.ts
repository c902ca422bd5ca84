import { deleteEvents, deleteIdempotencyKeys } from "../db/queries/idempotency-keys.ts";
import type { ServiceContext } from "./context.ts";

export interface JournalAges {
  idempotencyKeysSeconds: number;
  eventsSeconds: number;
}

export const defaultJournalAges: JournalAges = {
  idempotencyKeysSeconds: 86_400,
  eventsSeconds: 14 * 86_400,
};
const ROWS_PER_SWEEP_MAX = 5_000;

/** Forgets what is too old of keys and events: a bounded number of rows a call, so call it again while it gives any. */
export async function sweepJournals(
  ctx: ServiceContext,
  ages: JournalAges = defaultJournalAges,
): Promise<number> {
  const keys = await deleteIdempotencyKeys(ctx.db, ages.idempotencyKeysSeconds, ROWS_PER_SWEEP_MAX);
  const events = await deleteEvents(ctx.db, ages.eventsSeconds, ROWS_PER_SWEEP_MAX);
  return keys + events;
}
