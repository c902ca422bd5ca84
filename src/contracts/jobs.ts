import { z } from "zod";
import { generationSchema, idSchema } from "./common/primitives.ts";

/**
 * Payloads of BullMQ jobs: ids and generations, never state. A job only triggers its handler, which
 * reads the work from Postgres. Changes are additive: an older job worker must parse the jobs of a
 * newer API.
 */
export const jobPayloads = {
  /** Places every pending set that is due, whatever the cause. */
  "place-sets": z.object({ cause: z.string().max(100) }),
  /** Decides how many sets a service should have, after its demands changed. */
  "autoscale-service": z.object({ serviceId: idSchema("svc") }),
  /**
   * Adds or removes sets of a service whose number of live sets may differ from the desired one.
   */
  "reconcile-service": z.object({ serviceId: idSchema("svc"), generation: generationSchema }),
  /** Continues the stored resize of a service. */
  "resize-service": z.object({ serviceId: idSchema("svc") }),
  /** Takes the next step of each move, such as those of a drained host. */
  "move-sets": z.object({ cause: z.string().max(100) }),
} as const;
export type JobName = keyof typeof jobPayloads;

export const queueOfJob = {
  "place-sets": "placement",
  "autoscale-service": "autoscale",
  "reconcile-service": "lifecycle",
  "resize-service": "lifecycle",
  "move-sets": "lifecycle",
} as const satisfies Record<JobName, string>;
export type QueueName = (typeof queueOfJob)[JobName];
export const queueNames = ["placement", "autoscale", "lifecycle"] as const;

/**
 * A job to enqueue. `jobId` is deterministic and contains a generation or an outbox id, so that a
 * job that is enqueued twice is one job.
 */
export interface JobRequest {
  name: JobName;
  jobId: string;
  payload: Record<string, unknown>;
}
