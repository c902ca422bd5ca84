import { collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { queueNames } from "../../contracts/jobs.ts";
import type { JobQueues } from "../../jobs/queue/job-queues.ts";
import type { JobAttempt } from "../../jobs/queue/job-runner.ts";
import { within } from "../../lib/async/with-timeout.ts";
import type { RequestFacts } from "../../routes/http/request-context.ts";

const QUEUES_TIMEOUT_MS = 500;

/** Metrics of one process. Labels are few and known beforehand: operations, queues, jobs, outcomes; never ids or names. */
export interface Metrics {
  observeRequest(facts: RequestFacts): void;
  observeAttempt(attempt: JobAttempt): void;
  /** In Prometheus's text format. What is in the queues is asked for now, and left out when Redis does not say. */
  render(): Promise<string>;
}

export interface MetricsSources {
  queues: JobQueues;
  /** How many wait for a signal. */
  countWaiting: () => number;
  /** Down hosts whose sets are not replaced because too many hosts went down at once. */
  countHeldHosts: () => Promise<number>;
}

export function createMetrics({ queues, countWaiting, countHeldHosts }: MetricsSources): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: "berth_http_request_seconds",
    help: "Time until an answer begins, by operation and class of status.",
    labelNames: ["operation", "status"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    registers,
  });
  const attempts = new Histogram({
    name: "berth_job_attempt_seconds",
    help: "Time of one attempt at a job, by outcome.",
    labelNames: ["queue", "job", "outcome"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 30, 120],
    registers,
  });
  const jobs = new Gauge({
    name: "berth_queue_jobs",
    help: "Jobs in a queue just now, by state.",
    labelNames: ["queue", "state"],
    registers,
  });
  const waiting = new Gauge({
    name: "berth_waits",
    help: "Long polls and waits of this process under way.",
    registers,
  });
  const heldHosts = new Gauge({
    name: "berth_replacement_held_hosts",
    help: "Down hosts whose sets are not replaced because too many hosts went down at once. Alert above 0.",
    registers,
  });
  return {
    observeRequest: ({ operationId, status, durationMs }) =>
      requests.observe(
        { operation: operationId, status: `${Math.floor(status / 100)}xx` },
        durationMs / 1_000,
      ),
    observeAttempt: ({ queue, job, outcome, durationMs }) =>
      attempts.observe({ queue, job, outcome }, durationMs / 1_000),
    async render() {
      waiting.set(countWaiting());
      jobs.reset();
      await within(
        countJobs(queues, jobs).catch(() => undefined),
        QUEUES_TIMEOUT_MS,
        undefined,
      );
      // A count that does not come in time stays as it was.
      await within(
        countHeldHosts()
          .then((count) => heldHosts.set(count))
          .catch(() => undefined),
        QUEUES_TIMEOUT_MS,
        undefined,
      );
      return await registry.metrics();
    },
  };
}

async function countJobs(queues: JobQueues, gauge: Gauge<"queue" | "state">): Promise<void> {
  for (const queue of queueNames) {
    const counts = await queues.get(queue).getJobCounts("wait", "active", "delayed", "failed");
    for (const [state, count] of Object.entries(counts)) gauge.set({ queue, state }, count);
  }
}
