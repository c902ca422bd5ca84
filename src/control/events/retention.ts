import { deleteDecisions } from "../../db/queries/autoscaling/decisions.ts";
import { deleteReleasedDemands } from "../../db/queries/autoscaling/demands.ts";
import { deleteEvents, deleteIdempotencyKeys } from "../../db/queries/runtime/idempotency-keys.ts";
import {
  deleteOldHooks,
  deleteOldPlacements,
  deleteOldRevisions,
  deleteOldServices,
  deleteOldSets,
  deleteOldTokens,
} from "../../db/queries/events/retention.ts";
import type { ControlContext } from "../runtime/context.ts";

export interface JournalAges {
  idempotencyKeysSeconds: number;
  eventsSeconds: number;
  /** Counted from their release: a late duplicate of an alert is known for so long after its end. */
  demandsSeconds: number;
  decisionsSeconds: number;
  /** Of sets, services, hooks and tokens that are gone, revisions that no set is of, placements that others followed. */
  goneSeconds: number;
}

const ROWS_PER_SWEEP_MAX = 5_000;
const SERVICES_PER_SWEEP_MAX = 20;

function defaultAges({ deletedKeptMs }: ControlContext["settings"]): JournalAges {
  return {
    idempotencyKeysSeconds: 86_400,
    eventsSeconds: 14 * 86_400,
    demandsSeconds: 30 * 86_400,
    decisionsSeconds: 90 * 86_400,
    goneSeconds: deletedKeptMs / 1_000,
  };
}

/**
 * Forgets what is too old: a bounded number of rows a call, so call it again while it gives any. Sets go before the services
 * that they are of.
 */
export async function sweepJournals(
  ctx: ControlContext,
  ages: JournalAges = defaultAges(ctx.settings),
): Promise<number> {
  const { db } = ctx;
  const { goneSeconds } = ages;
  let rows = 0;
  rows += await deleteIdempotencyKeys(db, ages.idempotencyKeysSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteEvents(db, ages.eventsSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteReleasedDemands(db, ages.demandsSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteDecisions(db, ages.decisionsSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteOldSets(db, goneSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteOldPlacements(db, goneSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteOldServices(db, goneSeconds, SERVICES_PER_SWEEP_MAX);
  rows += await deleteOldRevisions(db, goneSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteOldHooks(db, goneSeconds, ROWS_PER_SWEEP_MAX);
  rows += await deleteOldTokens(db, goneSeconds, ROWS_PER_SWEEP_MAX);
  return rows;
}
