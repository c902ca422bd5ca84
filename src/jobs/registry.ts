import type { z } from "zod";
import { type JobName, jobPayloads, type QueueName, queueOfJob } from "../contracts/jobs.ts";
import { assert } from "../lib/assert.ts";
import { autoscaleService } from "../services/autoscale-service.ts";
import type { ServiceContext } from "../services/context.ts";
import type { Placer } from "../services/place-sets.ts";
import { reconcileService } from "../services/reconcile-service.ts";

/** What handlers are given. */
export interface JobContext {
  ctx: ServiceContext;
  placer: Placer;
}

export interface JobDefinition<N extends JobName> {
  name: N;
  queue: QueueName;
  /** Tries in all; the sweeps carry the intent on when they are used up. */
  attempts: number;
  /** Doubles from try to try. */
  backoffMs: number;
  /** Idempotent, safe to run twice at once; a stale generation is a success that does nothing. Its answer is logged. */
  handler(context: JobContext, payload: z.infer<(typeof jobPayloads)[N]>): Promise<object>;
}

function defineJob<N extends JobName>(
  definition: Omit<JobDefinition<N>, "queue">,
): JobDefinition<N> {
  return { ...definition, queue: queueOfJob[definition.name] };
}

/** Exactly one definition for each payload of the contract: the type sees to it. */
export const jobDefinitions: { [N in JobName]: JobDefinition<N> } = {
  "place-sets": defineJob({
    name: "place-sets",
    attempts: 5,
    backoffMs: 200,
    handler: ({ placer }) => placer.placeSets(),
  }),
  "autoscale-service": defineJob({
    name: "autoscale-service",
    attempts: 5,
    backoffMs: 200,
    handler: async ({ ctx }, { serviceId }) => ({
      outcome: (await autoscaleService(ctx, serviceId)) ?? "gone",
    }),
  }),
  "reconcile-service": defineJob({
    name: "reconcile-service",
    attempts: 5,
    backoffMs: 200,
    handler: async ({ ctx }, { serviceId }) => {
      const outcome = await reconcileService(ctx, serviceId);
      return { created: outcome?.created ?? 0, deleted: outcome?.deleted ?? 0 };
    },
  }),
};

/** How many jobs of a queue one process runs at once. The placer runs one at a time whatever this says. */
export const queueConcurrency: Record<QueueName, number> = {
  placement: 1,
  autoscale: 8,
  lifecycle: 8,
};

/** Runs the job of this name on a payload that came from Redis, which is parsed here. */
export async function runJob(context: JobContext, name: string, data: unknown): Promise<object> {
  assert(isJobName(name), `no job is named ${name}`);
  return runDefined(context, name, data);
}

async function runDefined<N extends JobName>(
  context: JobContext,
  name: N,
  data: unknown,
): Promise<object> {
  const payload = jobPayloads[name].parse(data) as z.infer<(typeof jobPayloads)[N]>;
  return jobDefinitions[name].handler(context, payload);
}

function isJobName(name: string): name is JobName {
  return Object.hasOwn(jobPayloads, name);
}
