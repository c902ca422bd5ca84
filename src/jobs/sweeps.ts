import type { JobRing } from "../contracts/jobs.ts";
import type { ServiceContext } from "../services/context.ts";
import { closeServices } from "../services/close-services.ts";
import { drainHosts } from "../services/drain-hosts.ts";
import { type OutboxEntry, readOutbox, removeFromOutbox } from "../services/outbox.ts";
import type { Placer } from "../services/place-sets.ts";
import { findDuePlacements, findUnbalancedServices } from "../services/pending-work.ts";
import { reconcileService } from "../services/reconcile-service.ts";
import { releaseDueDemands } from "../services/release-due-demands.ts";
import { replaceLostHosts } from "../services/replace-lost-hosts.ts";
import { sweepJournals } from "../services/sweep-journals.ts";
import { addJobs } from "./doorbell.ts";
import type { Queues } from "./queues.ts";
import { type JobContext, runJob } from "./registry.ts";

const OUTBOX_AGE_MS = 1_000;
const OUTBOX_BATCH_MAX = 500;

export interface SweepOptions extends JobContext {
  queues: Queues;
}

export interface Sweeps {
  /** Starts no further sweep and waits for those under way. */
  stop(): Promise<void>;
}

/**
 * What makes Redis a doorbell and nothing more (I1): process timers, not jobs of Redis, look into Postgres for what should be done
 * and is not. Every job worker sweeps; all of it is safe to run twice at once. Periods are spread by a fifth, so that processes
 * started together do not sweep together.
 */
export function startSweeps(options: SweepOptions): Sweeps {
  const { ctx } = options;
  const loops = [
    startLoop(ctx, "outbox", 500, () => relayOutbox(options)),
    startLoop(ctx, "pending", 2_000, () => placeDue(ctx, options.placer)),
    startLoop(ctx, "demands", 500, () => releaseDueDemands(ctx)),
    startLoop(ctx, "hosts", 2_000, async () => {
      await replaceLostHosts(ctx);
      await drainHosts(ctx);
    }),
    startLoop(ctx, "services", 5_000, () => balanceServices(ctx)),
    startLoop(ctx, "journals", 60_000, () => sweepJournals(ctx)),
  ];
  return { stop: async () => void (await Promise.all(loops.map((stop) => stop()))) };
}

/** Rings what a crash or a Redis outage left in the outbox; without Redis, does it here and now. */
export async function relayOutbox(options: SweepOptions): Promise<number> {
  const entries = await readOutbox(options.ctx, OUTBOX_AGE_MS, OUTBOX_BATCH_MAX);
  if (entries.length === 0) return 0;
  try {
    await addJobs(options.queues, entries);
  } catch (error) {
    options.ctx.log.warn(
      { err: error, jobs: entries.length },
      "no Redis: carrying the outbox out directly",
    );
    await runDirectly(options, entries);
  }
  await removeFromOutbox(
    options.ctx,
    entries.map((entry) => entry.id),
  );
  return entries.length;
}

/** Each kind of job once for each subject; a job that fails stays in the outbox, as the whole batch does then. */
async function runDirectly(options: SweepOptions, entries: readonly OutboxEntry[]): Promise<void> {
  const distinct = new Map<string, JobRing>();
  for (const entry of entries)
    distinct.set(entry.name === "place-sets" ? entry.name : entry.jobId, entry);
  for (const job of distinct.values()) await runJob(options, job.name, job.payload);
}

async function placeDue(ctx: ServiceContext, placer: Placer): Promise<void> {
  if (await findDuePlacements(ctx)) await placer.placeSets();
}

async function balanceServices(ctx: ServiceContext): Promise<void> {
  for (const serviceId of await findUnbalancedServices(ctx)) await reconcileService(ctx, serviceId);
  await closeServices(ctx);
}

/** Runs `work` again and again, `periodMs` after the end of the last run. An error is logged and the next run comes all the same. */
function startLoop(
  ctx: ServiceContext,
  name: string,
  periodMs: number,
  work: () => Promise<unknown>,
): () => Promise<void> {
  let isStopping = false;
  let wake: (() => void) | undefined;
  const loop = (async () => {
    while (!isStopping) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, periodMs * (0.9 + Math.random() * 0.2));
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (isStopping) return;
      await work().catch((error: unknown) =>
        ctx.log.error({ err: error, sweep: name }, "sweep failed"),
      );
    }
  })();
  return async () => {
    isStopping = true;
    wake?.();
    await loop;
  };
}
