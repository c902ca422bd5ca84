import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { QueueName } from "../../contracts/jobs.ts";
import type { Log } from "../../lib/log.ts";

/** The producing side of every queue, on one connection that its owner opens and closes. */
export interface JobQueues {
  get(name: QueueName): Queue;
  close(): Promise<void>;
}

/**
 * Each queue is opened at its first use. A queue whose first talk with Redis fails is of no use any more (BullMQ keeps the failure), so it
 * is opened anew at its next use.
 */
export function openJobQueues(redis: Redis, prefix: string, log: Log): JobQueues {
  const queues = new Map<QueueName, Queue>();
  let isClosed = false;
  const open = (name: QueueName): Queue => {
    const queue = new Queue(name, { connection: redis, prefix });
    queue.on("error", (error) => log.debug({ err: error, queue: name }, "queue error"));
    queue.waitUntilReady().catch(() => {
      if (!isClosed && queues.get(name) === queue) queues.delete(name);
    });
    queues.set(name, queue);
    return queue;
  };
  return {
    get: (name) => queues.get(name) ?? open(name),
    close: async () => {
      isClosed = true;
      // Closing waits for the first talk, which never comes while Redis is away: the connection's owner ends it.
      await Promise.allSettled([...queues.values()].map((queue) => queue.close()));
    },
  };
}
