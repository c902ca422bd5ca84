import {
  claimDueJobs,
  completeJobs,
  type DueJob,
  recordJobError,
} from "../../control/runtime/outbox.ts";
import { assert } from "../../lib/assert.ts";
import type { SweepDeps } from "./sweep-deps.ts";

/** Rows per run: each may be a transaction of its own, and the next run comes within a second. */
const ROWS_PER_RUN_MAX = 200;

/**
 * Does the due work that no job has done. The first time a row is due its job was lost between commit and BullMQ: it is
 * enqueued again. When it is due once more, BullMQ accepted the job and nothing happened: the queue is paused, its
 * consumer hangs, or Redis lost it. Then, and while Redis is unavailable, the relay does the work in this process.
 * Gives the number of rows that it claimed.
 */
export async function relayOutbox(deps: SweepDeps): Promise<number> {
  const due = await claimDueJobs(deps.ctx, [...deps.registry.keys()], ROWS_PER_RUN_MAX);
  if (due.length === 0) return 0;
  const isNew = ({ attempts }: DueJob): boolean => attempts === 1;
  const lost = due.filter(isNew);
  const overdue = due.filter((job) => !isNew(job));
  const ids = lost.map(({ id }) => id);
  const isEnqueued = lost.length === 0 || (await deps.jobQueue.tryEnqueue(lost, ids));
  await runInProcess(deps, isEnqueued ? overdue : due);
  return due.length;
}

/**
 * One run for all rows with the same work. The error of a failed run is stored with its rows, which are due again. A
 * database that refuses the bookkeeping stops no other work: those rows are due again too.
 */
async function runInProcess(deps: SweepDeps, jobs: readonly DueJob[]): Promise<void> {
  const { log } = deps.ctx;
  const byWork = new Map<string, DueJob[]>();
  for (const job of jobs) {
    const work = workOf(deps, job);
    const same = byWork.get(work);
    if (same) same.push(job);
    else byWork.set(work, [job]);
  }
  for (const [work, same] of byWork) {
    const ids = same.map(({ id }) => id);
    const fields = { work, rows: ids.length };
    try {
      const [job] = same;
      const definition = job && deps.registry.get(job.name);
      assert(definition, "only jobs of the registry are claimed");
      await definition.run(deps, job.payload);
    } catch (error) {
      log.warn({ ...fields, err: error }, "due work failed");
      await recordJobError(deps.ctx, ids, error).catch((failure: unknown) =>
        log.warn({ ...fields, err: failure }, "error of due work not stored"),
      );
      continue;
    }
    await completeJobs(deps.ctx, ids).catch((failure: unknown) =>
      log.warn({ ...fields, err: failure }, "outbox rows not deleted"),
    );
  }
}

function workOf({ registry }: SweepDeps, { name, payload }: DueJob): string {
  return registry.get(name)?.isShared === true ? name : `${name} ${JSON.stringify(payload)}`;
}
