import { deleteDecisions } from "../db/queries/decisions.ts";
import { deleteReleasedDemands } from "../db/queries/demands.ts";
import { deleteEvents, deleteIdempotencyKeys } from "../db/queries/idempotency-keys.ts";
import type { ServiceContext } from "./context.ts";

export interface JournalAges {
  idempotencyKeysSeconds: number;
  eventsSeconds: number;
  /** Counted from their release: a late duplicate of an alert is known for so long after its end. */
  demandsSeconds: number;
  decisionsSeconds: number;
}

export const defaultJournalAges: JournalAges = {
  idempotencyKeysSeconds: 86_400,
  eventsSeconds: 14 * 86_400,
  demandsSeconds: 30 * 86_400,
  decisionsSeconds: 90 * 86_400,
};
const ROWS_PER_SWEEP_MAX = 5_000;

/** Forgets what is too old of keys, events, released demands and decisions: a bounded number of rows a call, so call it again while it gives any. */
export async function sweepJournals(
  ctx: ServiceContext,
  ages: JournalAges = defaultJournalAges,
): Promise<number> {
  const keys = await deleteIdempotencyKeys(ctx.db, ages.idempotencyKeysSeconds, ROWS_PER_SWEEP_MAX);
  const events = await deleteEvents(ctx.db, ages.eventsSeconds, ROWS_PER_SWEEP_MAX);
  const demands = await deleteReleasedDemands(ctx.db, ages.demandsSeconds, ROWS_PER_SWEEP_MAX);
  const decisions = await deleteDecisions(ctx.db, ages.decisionsSeconds, ROWS_PER_SWEEP_MAX);
  return keys + events + demands + decisions;
}
