import { type ConnectionOptions, Queue } from "bullmq";
import { type JobName, type QueueName, queueNames, queueOfJob } from "../contracts/jobs.ts";

/** Finished jobs go at once: their work is in Postgres. Failed ones stay for people to look at, bounded by number and age. */
export const jobRetention = {
  removeOnComplete: true,
  removeOnFail: { age: 7 * 86_400, count: 1_000 },
} as const;

export type Queues = Record<QueueName, Queue>;

export function openQueues(connection: ConnectionOptions, prefix: string): Queues {
  const open = (name: QueueName) => {
    const queue = new Queue(name, { connection, prefix, skipVersionCheck: true });
    queue.on("error", () => undefined); // producers hear of errors from the call that failed
    return queue;
  };
  return {
    placement: open("placement"),
    autoscale: open("autoscale"),
    lifecycle: open("lifecycle"),
  };
}

export async function closeQueues(queues: Queues): Promise<void> {
  await Promise.all(queueNames.map((name) => queues[name].close()));
}

export function queueFor(queues: Queues, job: JobName): Queue {
  return queues[queueOfJob[job]];
}
