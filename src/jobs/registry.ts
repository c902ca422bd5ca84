import { type JobName, jobPayloads, type QueueName, queueOfJob } from "../contracts/jobs.ts";
import { assert } from "../lib/assert.ts";
import { autoscaleServiceJob } from "./definitions/autoscale-service.ts";
import type { DefinedJob } from "./queue/define-job.ts";
import { moveSetsJob } from "./definitions/move-sets.ts";
import { placeSetsJob } from "./definitions/place-sets.ts";
import { reconcileServiceJob } from "./definitions/reconcile-service.ts";
import { resizeServiceJob } from "./definitions/resize-service.ts";

export type JobRegistry = ReadonlyMap<JobName, DefinedJob>;

/**
 * Creates the registry. Throws unless each payload of the contract has exactly one definition, on
 * the queue of the contract. A process with a missing definition thus fails at its start.
 */
export function createRegistry(definitions: readonly DefinedJob[]): JobRegistry {
  const registry = new Map<JobName, DefinedJob>();
  for (const job of definitions) {
    assert(!registry.has(job.name), `job ${job.name} is defined twice`);
    assert(job.payload === jobPayloads[job.name], `job ${job.name} has a payload of its own`);
    assert(
      job.queue === queueOfJob[job.name],
      `job ${job.name} is on a different queue than its contract`,
    );
    registry.set(job.name, job);
  }
  const missing = Object.keys(jobPayloads).filter((name) => !registry.has(name as JobName));
  assert(missing.length === 0, `jobs without a definition: ${missing.join(", ")}`);
  return registry;
}

export const jobRegistry = createRegistry([
  placeSetsJob,
  autoscaleServiceJob,
  reconcileServiceJob,
  resizeServiceJob,
  moveSetsJob,
]);

/** The concurrency of a job worker on a queue: the sum over the definitions of the queue. */
export function computeConcurrency(registry: JobRegistry, queue: QueueName): number {
  const own = [...registry.values()].filter((job) => job.queue === queue);
  return own.reduce((sum, job) => sum + job.concurrency, 0);
}

/** All definitions of the queue are shared (see JobRules). */
export function isShared(registry: JobRegistry, queue: QueueName): boolean {
  return [...registry.values()].every((job) => job.queue !== queue || job.isShared);
}
