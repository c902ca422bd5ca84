import { z } from "zod";
import { generationSchema, idSchema } from "./common/primitives.ts";

/**
 * Payloads of BullMQ jobs: ids and generations, never state. Jobs are doorbells; what there is to do is in Postgres.
 * Changes are additive: an older job worker must still be able to parse what a newer API rang.
 */
export const jobPayloads = {
  /** Something may be placeable. Claims every pending set it can, whoever rang. */
  "place-sets": z.object({ cause: z.string().max(100) }),
  /** Demands of a service changed: decide how many sets it should have. */
  "autoscale-service": z.object({ serviceId: idSchema("svc") }),
  /** The number of live sets of a service may differ from what is desired. */
  "reconcile-service": z.object({ serviceId: idSchema("svc"), generation: generationSchema }),
  /** Sets are to leave their hosts, as a host is drained or by hand: take the next step of each such move. */
  "move-sets": z.object({ cause: z.string().max(100) }),
} as const;
export type JobName = keyof typeof jobPayloads;

export const queueOfJob = {
  "place-sets": "placement",
  "autoscale-service": "autoscale",
  "reconcile-service": "lifecycle",
  "move-sets": "lifecycle",
} as const satisfies Record<JobName, string>;
export type QueueName = (typeof queueOfJob)[JobName];
export const queueNames = ["placement", "autoscale", "lifecycle"] as const;

/** A job to ring. `jobId` is deterministic and carries a generation or an outbox id, so that ringing twice is one job. */
export interface JobRequest {
  name: JobName;
  jobId: string;
  payload: Record<string, unknown>;
}
