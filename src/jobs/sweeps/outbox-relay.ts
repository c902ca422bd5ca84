import {
  claimDueJobs,
  completeJobs,
  type DueJob,
  recordJobError,
  releaseDueJobs,
} from "../../control/runtime/outbox.ts";
import type { JobName } from "../../contracts/jobs.ts";
import { assert } from "../../lib/assert.ts";
import { runWithinTimeout } from "../queue/run-within-timeout.ts";
import type { SweepDeps } from "./sweep-deps.ts";

/**
 * Rows per run. Each row may be a transaction of its own, and the next run starts within a second.
 */
const ROWS_PER_RUN_MAX = 200;
/**
 * Concurrent work. Work that waits for a row lock or for Redis delays other work only if this many
 * wait.
 */
const CONCURRENT_WORK_MAX = 4;

/**
 * Runs due work of the jobs `names` that no job has completed, and returns the number of rows that
 * it claimed.
 *
 * A row that is due for the first time lost its job between the commit and BullMQ: the relay
 * enqueues the job again. The job of a row that is due a second time has not completed in 11 s. Its
 * queue is paused, its consumer hangs, Redis lost it, or it still runs. In that case, and while
 * Redis is unavailable, the relay runs the work in this process.
 *
 * Once `signal` aborts, it waits for the work in progress and releases the other rows.
 */
export async function relayOutbox(
  deps: SweepDeps,
  names: readonly JobName[],
  signal: AbortSignal,
): Promise<number> {
  const due = await claimDueJobs(deps.ctx, names, ROWS_PER_RUN_MAX);
  if (due.length === 0) return 0;
  const isNew = ({ attempts }: DueJob): boolean => attempts === 1;
  const lost = due.filter(isNew);
  const overdue = due.filter((job) => !isNew(job));
  const ids = lost.map(({ id }) => id);
  const isEnqueued = lost.length === 0 || (await deps.jobQueue.tryEnqueue(lost, ids));
  await runInProcess(deps, isEnqueued ? overdue : due, signal);
  return due.length;
}

/**
 * Runs the work of all rows, once for rows with equal work, each within the timeout of its job. It
 * stores the error of a failed run with the rows, which become due again. If the database rejects
 * that update, the other work continues.
 */
async function runInProcess(
  deps: SweepDeps,
  jobs: readonly DueJob[],
  signal: AbortSignal,
): Promise<void> {
  const byWork = new Map<string, DueJob[]>();
  for (const job of jobs) {
    const work = toWorkKey(deps, job);
    const same = byWork.get(work);
    if (same) same.push(job);
    else byWork.set(work, [job]);
  }
  const runNext = async (): Promise<void> => {
    for (const [work, same] of byWork) {
      if (signal.aborted) return;
      byWork.delete(work);
      await runWork(deps, work, same, signal);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_WORK_MAX }, runNext));
  const untried = [...byWork.values()].flat();
  await releaseDueJobs(
    deps.ctx,
    untried.map(({ id }) => id),
  );
}

/**
 * Runs one piece of work, and deletes its rows or stores its error with them. Shared work may stop
 * early once `signal` aborts: its rows are then due again. Never throws.
 */
async function runWork(
  deps: SweepDeps,
  work: string,
  same: readonly DueJob[],
  signal: AbortSignal,
): Promise<void> {
  const { log } = deps.ctx;
  const ids = same.map(({ id }) => id);
  const fields = { work, rows: ids.length };
  let mayBeIncomplete: boolean;
  try {
    const [job] = same;
    const definition = job && deps.registry.get(job.name);
    assert(definition, "only jobs of the registry are claimed");
    await runWithinTimeout(definition, deps, job.payload, signal);
    mayBeIncomplete = definition.isShared && signal.aborted;
  } catch (error) {
    log.warn({ ...fields, err: error }, "an overdue job failed");
    await recordJobError(deps.ctx, ids, error).catch((failure: unknown) =>
      log.warn({ ...fields, err: failure }, "cannot store the error of an overdue job"),
    );
    return;
  }
  const finish = mayBeIncomplete ? releaseDueJobs : completeJobs;
  await finish(deps.ctx, ids).catch((failure: unknown) =>
    log.warn({ ...fields, err: failure }, "cannot delete or release outbox rows"),
  );
}

function toWorkKey({ registry }: SweepDeps, { name, payload }: DueJob): string {
  return registry.get(name)?.isShared === true ? name : `${name} ${JSON.stringify(payload)}`;
}
