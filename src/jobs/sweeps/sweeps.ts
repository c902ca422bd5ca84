import type { JobRequest } from "../../contracts/jobs.ts";
import { closeServices } from "../../control/services/close-services.ts";
import { type OutboxEntry, readOutbox, removeFromOutbox } from "../../control/runtime/outbox.ts";
import {
  findDuePlacements,
  findUnbalancedServices,
} from "../../control/placement/retry-pending.ts";
import { reconcileService } from "../../control/replicas/reconcile-replicas.ts";
import { decideDueServices } from "../../control/autoscaling/decide-due-services.ts";
import { replaceLostHosts } from "../../control/hosts/replace-lost-hosts.ts";
import { sweepJournals } from "../../control/events/retention.ts";
import type { BullmqJobQueue } from "../queue/bullmq-job-queue.ts";
import type { JobDeps } from "../queue/define-job.ts";
import type { JobRegistry } from "../registry.ts";
import { startSweep } from "./start-sweep.ts";

/** Younger rows are being rung by who wrote them. */
const OUTBOX_AGE_MS = 1_000;
const OUTBOX_ROWS_PER_RUN_MAX = 1_000;
const PENDING_SWEEP_MS = 2_000;
const JOURNAL_ROUNDS_MAX = 20;

export interface SweepDeps extends JobDeps {
  jobQueue: BullmqJobQueue;
  registry: JobRegistry;
}

/**
 * What makes Redis a doorbell and nothing more (I1): timers of this process, and not anything in Redis, look in
 * Postgres for what should be done and is not. Every job worker sweeps; it is safe at once, and twice.
 */
export function startSweeps(deps: SweepDeps): { stop(): Promise<void> } {
  const { log } = deps.ctx;
  const start = (name: string, everyMs: number, run: () => Promise<unknown>) =>
    startSweep({ name, everyMs, run, log });
  const stops = [
    start("outbox", 500, () => relayOutbox(deps)),
    start("pending", PENDING_SWEEP_MS, () => ringDuePlacements(deps)),
    start("autoscaling", 500, () => decideDueServices(deps.ctx)),
    start("hosts", 2_000, () => careForHosts(deps)),
    start("services", 5_000, () => balanceServices(deps)),
    start("journals", 60_000, () => sweepOldJournals(deps)),
  ];
  return { stop: async () => void (await Promise.all(stops.map((stop) => stop()))) };
}

/** Rings what was left in the outbox by a crash or a Redis that was away. While it still is, does the work here. */
export async function relayOutbox(deps: SweepDeps): Promise<number> {
  const entries = await readOutbox(deps.ctx, OUTBOX_AGE_MS, OUTBOX_ROWS_PER_RUN_MAX);
  if (entries.length === 0) return 0;
  const ids = entries.map((entry) => entry.id);
  if (!(await deps.jobQueue.tryEnqueue(entries, ids))) await runEntriesInProcess(deps, entries);
  return entries.length;
}

/** One run for all rows that ask for the same. A row whose run failed stays, and comes again. */
async function runEntriesInProcess(
  deps: SweepDeps,
  entries: readonly OutboxEntry[],
): Promise<void> {
  const bySubject = new Map<string, OutboxEntry[]>();
  for (const entry of entries) {
    const subject = subjectOf(entry);
    bySubject.set(subject, [...(bySubject.get(subject) ?? []), entry]);
  }
  for (const [subject, same] of bySubject) {
    try {
      const [entry] = same;
      if (entry) await deps.registry.get(entry.name)?.run(deps, entry.payload);
    } catch (error) {
      deps.ctx.log.warn({ err: error, subject }, "outbox entry not carried out");
      continue;
    }
    await removeFromOutbox(
      deps.ctx,
      same.map((entry) => entry.id),
    );
  }
}

function subjectOf(entry: OutboxEntry): string {
  return entry.name === "place-sets"
    ? entry.name
    : `${entry.name} ${JSON.stringify(entry.payload)}`;
}

/** One job for all job workers that find the same: the id is the time in steps of a sweep. */
async function ringDuePlacements(deps: SweepDeps): Promise<void> {
  if (!(await findDuePlacements(deps.ctx))) return;
  const ring: JobRequest = {
    name: "place-sets",
    jobId: `sweep:pending:${Math.floor(Date.now() / PENDING_SWEEP_MS)}`,
    payload: { cause: "sweep" },
  };
  if (!(await deps.jobQueue.tryEnqueue([ring], []))) await deps.placeSets();
}

async function careForHosts({ ctx, moveSets }: SweepDeps): Promise<void> {
  await replaceLostHosts(ctx);
  await moveSets();
}

/** Services whose size is not what is wanted, or whose sets are not as many as their size says; then empty ones are closed. */
async function balanceServices({ ctx }: SweepDeps): Promise<void> {
  for (const serviceId of await findUnbalancedServices(ctx)) await reconcileService(ctx, serviceId);
  await closeServices(ctx);
}

async function sweepOldJournals({ ctx }: SweepDeps): Promise<void> {
  for (let round = 0; round < JOURNAL_ROUNDS_MAX; round++) {
    if ((await sweepJournals(ctx)) === 0) return;
  }
}
