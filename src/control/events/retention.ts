import { type JobName, jobPayloads } from "../../contracts/jobs.ts";
import { SESSION_SECONDS_MAX } from "../../contracts/api/sessions.ts";
import { deleteDecisions } from "../../db/queries/autoscaling/decisions.ts";
import { deleteReleasedDemands } from "../../db/queries/autoscaling/demands.ts";
import {
  deleteEvents,
  deleteOldHooks,
  deleteOldRevisions,
  deleteOldServices,
  deleteOldSets,
  deleteOldTokens,
  deleteSupersededPlacements,
} from "../../db/queries/events/retention.ts";
import { deleteOldHostRecords } from "../../db/queries/hosts/remove-hosts.ts";
import { deleteIdempotencyKeys } from "../../db/queries/runtime/idempotency-keys.ts";
import { deleteParkedOutbox } from "../../db/queries/runtime/outbox.ts";
import { deleteOldSessions, endAbandonedSessions } from "../../db/queries/sessions/sessions.ts";
import type { ControlContext } from "../runtime/context.ts";

/** How long rows are retained, in seconds. */
export interface RetentionAges {
  idempotencyKeysSeconds: number;
  eventsSeconds: number;
  /** From the release on. For this time Berth recognizes a late duplicate of an alert. */
  demandsSeconds: number;
  decisionsSeconds: number;
  /** Parked jobs, and jobs that this release does not know. */
  parkedJobsSeconds: number;
  /** For this time, the agent of a deleted host learns of the deletion. */
  deletedHostsSeconds: number;
  /** From their end on, as audit records. */
  sessionsSeconds: number;
  /** Deleted sets, services, hooks and tokens, unused revisions and superseded placements. */
  deletedSeconds: number;
}

const jobNames = Object.keys(jobPayloads) as JobName[];

const DAY_SECONDS = 86_400;
/** Longer than any session, so the process that had one that is still open was killed. */
const ABANDONED_SECONDS = SESSION_SECONDS_MAX + 3_600;
const ROWS_PER_ROUND_MAX = 5_000;
const SERVICES_PER_ROUND_MAX = 20;
const ROUNDS_PER_STEP_MAX = 20;

function defaultAges({ deletedRetentionMs }: ControlContext["settings"]): RetentionAges {
  return {
    idempotencyKeysSeconds: DAY_SECONDS,
    eventsSeconds: 14 * DAY_SECONDS,
    demandsSeconds: 30 * DAY_SECONDS,
    decisionsSeconds: 90 * DAY_SECONDS,
    parkedJobsSeconds: 14 * DAY_SECONDS,
    deletedHostsSeconds: 400 * DAY_SECONDS,
    sessionsSeconds: 90 * DAY_SECONDS,
    deletedSeconds: deletedRetentionMs / 1_000,
  };
}

export interface RetentionOutcome {
  deleted: number;
  /** The names of failed steps. The other steps ran. */
  failed: string[];
}

export interface Retention {
  /** Ends before the next round of deletions once `signal` aborts. */
  run(signal?: AbortSignal): Promise<RetentionOutcome>;
}

/**
 * Deletes expired rows in independent steps. Each step is bounded by rows and rounds, and its
 * failure does not stop the others. Sets are deleted before their services.
 */
export function createRetention(
  ctx: ControlContext,
  ages: RetentionAges = defaultAges(ctx.settings),
): Retention {
  const { db } = ctx;
  const { deletedSeconds } = ages;
  const rows = ROWS_PER_ROUND_MAX;
  let afterPlacementId = "";
  const steps: Record<string, () => Promise<StepRound>> = {
    "idempotency-keys": () =>
      untilNoneIsLeft(deleteIdempotencyKeys(db, ages.idempotencyKeysSeconds, rows)),
    events: () => untilNoneIsLeft(deleteEvents(db, ages.eventsSeconds, rows)),
    demands: () => untilNoneIsLeft(deleteReleasedDemands(db, ages.demandsSeconds, rows)),
    decisions: () => untilNoneIsLeft(deleteDecisions(db, ages.decisionsSeconds, rows)),
    "parked-jobs": () =>
      untilNoneIsLeft(deleteParkedOutbox(db, jobNames, ages.parkedJobsSeconds, rows)),
    sets: () => untilNoneIsLeft(deleteOldSets(db, deletedSeconds, rows)),
    placements: async () => {
      const from = { afterId: afterPlacementId, limit: rows };
      const page = await deleteSupersededPlacements(db, deletedSeconds, from);
      afterPlacementId = page.nextAfterId;
      // Most pages of old placements delete nothing, because their sets run: continue to the end.
      return { deleted: page.deleted, isLast: page.nextAfterId === "" };
    },
    services: () => untilNoneIsLeft(deleteOldServices(db, deletedSeconds, SERVICES_PER_ROUND_MAX)),
    revisions: () => untilNoneIsLeft(deleteOldRevisions(db, deletedSeconds, rows)),
    hooks: () => untilNoneIsLeft(deleteOldHooks(db, deletedSeconds, rows)),
    "deleted-hosts": () =>
      untilNoneIsLeft(deleteOldHostRecords(db, ages.deletedHostsSeconds, rows)),
    "abandoned-sessions": () => untilNoneIsLeft(endAbandonedSessions(db, ABANDONED_SECONDS, rows)),
    sessions: () => untilNoneIsLeft(deleteOldSessions(db, ages.sessionsSeconds, rows)),
    tokens: () => untilNoneIsLeft(deleteOldTokens(db, deletedSeconds, rows)),
  };
  return {
    async run(signal) {
      const outcome: RetentionOutcome = { deleted: 0, failed: [] };
      for (const [name, step] of Object.entries(steps)) {
        try {
          outcome.deleted += await runRounds(step, signal);
        } catch (error) {
          ctx.log.warn({ err: error, step: name }, "retention step failed");
          outcome.failed.push(name);
        }
      }
      return outcome;
    },
  };
}

interface StepRound {
  deleted: number;
  /** A further round would find no rows. */
  isLast: boolean;
}

async function untilNoneIsLeft(deleting: Promise<number>): Promise<StepRound> {
  const deleted = await deleting;
  return { deleted, isLast: deleted === 0 };
}

async function runRounds(
  step: () => Promise<StepRound>,
  signal: AbortSignal | undefined,
): Promise<number> {
  let total = 0;
  for (let round = 0; round < ROUNDS_PER_STEP_MAX; round++) {
    if (signal?.aborted) break;
    const { deleted, isLast } = await step();
    total += deleted;
    if (isLast) break;
  }
  return total;
}
