import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { QueueName } from "../../contracts/jobs.ts";
import type { Log } from "../../lib/log.ts";

/** The producers of all queues, on one connection that its owner opens and closes. */
export interface JobQueues {
  get(name: QueueName): Queue;
  close(): Promise<void>;
}

/**
 * Opens each queue at its first use. A queue of BullMQ never recovers from a failed first
 * connection, so the next use replaces such a queue.
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
      // A queue that never reached Redis closes when the owner of the connection closes it.
      await Promise.allSettled([...queues.values()].map((queue) => queue.close()));
    },
  };
}
