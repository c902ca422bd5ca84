import type { JobName } from "../../contracts/jobs.ts";
import {
  claimOutbox,
  deleteOutbox,
  type OutboxRow,
  type OutboxState,
  readOutboxState as readState,
  releaseOutbox,
  updateOutboxErrors,
} from "../../db/queries/runtime/outbox.ts";
import { truncate } from "../../lib/text/truncate.ts";
import type { ControlContext } from "./context.ts";

export type DueJob = OutboxRow;

const ERROR_CHARS_MAX = 500;

/** Claims overdue jobs, the oldest first and fairly across tenants. A claim lasts 10 to 60 s. */
export function claimDueJobs(
  ctx: ControlContext,
  names: readonly JobName[],
  limit: number,
): Promise<DueJob[]> {
  return claimOutbox(ctx.db, names, limit);
}

/** Releases claims of jobs without an attempt. The jobs are due immediately. */
export function releaseDueJobs(
  ctx: Pick<ControlContext, "db">,
  outboxIds: readonly number[],
): Promise<void> {
  return releaseOutbox(ctx.db, outboxIds);
}

/** Deletes completed jobs. */
export function completeJobs(
  ctx: Pick<ControlContext, "db">,
  outboxIds: readonly number[],
): Promise<void> {
  return deleteOutbox(ctx.db, outboxIds);
}

/** Stores the error of these jobs for the operator. The relay retries them later. */
export function recordJobError(
  ctx: Pick<ControlContext, "db">,
  outboxIds: readonly number[],
  error: unknown,
): Promise<void> {
  const message = error instanceof Error ? error.message : String(error);
  return updateOutboxErrors(ctx.db, outboxIds, truncate(message, ERROR_CHARS_MAX));
}

export function readOutboxState(ctx: Pick<ControlContext, "db">): Promise<OutboxState> {
  return readState(ctx.db);
}
