import { collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { queueNames } from "../../contracts/jobs.ts";
import type { JobAttempt } from "../../jobs/queue/job-runner.ts";
import type { SweepRun } from "../../jobs/sweeps/repeat-sweep.ts";
import type { EventStreamLag } from "../../db/queries/events/read-events.ts";
import type { OutboxState } from "../../db/queries/runtime/outbox.ts";
import { readEventStreamLag } from "../../control/events/event-stream-lag.ts";
import {
  countHostsHeldFromFailover,
  countHostsWithFailedSelfTest,
  countHostsWithIgnoredSelfTest,
} from "../../control/hosts/list-hosts.ts";
import { listFreeAddressCounts } from "../../control/networks/end-quarantines.ts";
import { findLongestOverdueMs } from "../../control/placement/retry-pending.ts";
import { readOutboxState } from "../../control/runtime/outbox.ts";
import { withTimeout } from "../../lib/async/with-timeout.ts";
import type { RequestFacts } from "../../routes/http/request-context.ts";
import type { ControlPlane } from "./control-plane.ts";

const METRICS_TIMEOUT_MS = 500;

/**
 * Metrics of one process. Labels have few, known values (operations, queues, jobs, outcomes), never
 * ids or names. Only the metric of free addresses names tenants and networks, in a bounded number.
 */
export interface Metrics {
  observeRequest(facts: RequestFacts): void;
  observeAttempt(attempt: JobAttempt): void;
  observeSweep(run: SweepRun): void;
  /**
   * Renders Prometheus's text format. It counts the jobs in the queues now, and omits them if Redis
   * does not answer.
   */
  render(): Promise<string>;
}

export function createMetrics({
  ctx,
  queues,
  signals,
}: Pick<ControlPlane, "ctx" | "queues" | "signals">): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: "berth_http_request_seconds",
    help: "Time to the first byte of an answer, by operation and class of status.",
    labelNames: ["operation", "status"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    registers,
  });
  const attempts = new Histogram({
    name: "berth_job_attempt_seconds",
    help: "Duration of one attempt of a job, by outcome.",
    labelNames: ["queue", "job", "outcome"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5, 30, 120],
    registers,
  });
  const dueWork = createDueWorkMetrics(registers);
  const jobs = new Gauge({
    name: "berth_queue_jobs",
    help: "Current jobs in a queue, by state.",
    labelNames: ["queue", "state"],
    registers,
  });
  const waiting = new Gauge({
    name: "berth_waits",
    help: "Long polls and waits in progress in this process.",
    registers,
  });
  const hosts = createHostMetrics(registers);
  const freeAddresses = createAddressMetric(registers);
  return {
    observeRequest: ({ operationId, status, durationMs }) =>
      requests.observe(
        { operation: operationId, status: `${Math.floor(status / 100)}xx` },
        durationMs / 1_000,
      ),
    observeAttempt: ({ queue, job, outcome, durationMs }) =>
      attempts.observe({ queue, job, outcome }, durationMs / 1_000),
    observeSweep: dueWork.observeSweep,
    async render() {
      waiting.set(signals.waiting);
      jobs.reset();
      // If a count is late, the metric has its previous value.
      const reads = [
        countJobs(queues, jobs),
        countHostsHeldFromFailover(ctx).then(hosts.setHeld),
        countHostsWithFailedSelfTest(ctx).then(hosts.setFailedSelfTests),
        countHostsWithIgnoredSelfTest(ctx).then(hosts.setIgnoredSelfTests),
        findLongestOverdueMs(ctx).then(dueWork.setPending),
        listFreeAddressCounts(ctx).then((subnets) => freeAddresses.set(subnets)),
        readOutboxState(ctx).then(dueWork.setOutbox),
        readEventStreamLag(ctx).then(dueWork.setHorizon),
      ];
      await Promise.all(
        reads.map((read) =>
          withTimeout(
            read.catch(() => undefined),
            METRICS_TIMEOUT_MS,
            undefined,
          ),
        ),
      );
      return await registry.metrics();
    },
  };
}

function createHostMetrics(registers: Registry[]) {
  const held = new Gauge({
    name: "berth_replacement_held_hosts",
    help: "Down hosts whose sets are not replaced because too many hosts went down together. Alert above 0.",
    registers,
  });
  const failedSelfTests = new Gauge({
    name: "berth_self_test_failed_hosts",
    help: "Hosts whose self test failed. They take no new sets, except berth_self_test_ignored_hosts. Alert above 0.",
    registers,
  });
  const ignoredSelfTests = new Gauge({
    name: "berth_self_test_ignored_hosts",
    help: "Hosts that take new sets in spite of a failed self test, because too many hosts of their pool fail it. Alert above 0.",
    registers,
  });
  return {
    setHeld: (count: number) => held.set(count),
    setFailedSelfTests: (count: number) => failedSelfTests.set(count),
    setIgnoredSelfTests: (count: number) => ignoredSelfTests.set(count),
  };
}

function createAddressMetric(registers: Registry[]) {
  const free = new Gauge({
    name: "berth_subnet_free_addresses",
    help: "Addresses of a network that Berth can give to sets, for the 500 subnets with the fewest. Alert near 0.",
    labelNames: ["tenant", "network", "family"],
    registers,
  });
  return {
    set(subnets: Awaited<ReturnType<typeof listFreeAddressCounts>>): void {
      free.reset();
      for (const { free: count, family, ...labels } of subnets)
        free.set({ ...labels, family: String(family) }, count);
    },
  };
}

function createDueWorkMetrics(registers: Registry[]) {
  const sweeps = new Histogram({
    name: "berth_sweep_seconds",
    help: "Duration of a sweep's run, by outcome.",
    labelNames: ["sweep", "outcome"],
    buckets: [0.005, 0.025, 0.1, 0.5, 2, 10, 60],
    registers,
  });
  const outboxAge = new Gauge({
    name: "berth_outbox_oldest_due_seconds",
    help: "Age of the oldest job whose work is overdue; 0 when none is.",
    registers,
  });
  const parked = new Gauge({
    name: "berth_outbox_parked",
    help: "Jobs that the outbox relay no longer retries; see last_error in the table outbox.",
    registers,
  });
  const pendingAge = new Gauge({
    name: "berth_pending_sets_oldest_due_seconds",
    help: "Time for which the placer has not planned the most overdue pending set; 0 when none is due.",
    registers,
  });
  const horizon = new Gauge({
    name: "berth_event_horizon_seconds",
    help: "Time for which an old transaction has held events back from streams. Alert above 60.",
    registers,
  });
  return {
    setPending: (dueMs: number | undefined) => pendingAge.set((dueMs ?? 0) / 1_000),
    setHorizon: ({ ageSeconds }: EventStreamLag) => horizon.set(ageSeconds),
    observeSweep: ({ sweep, outcome, durationMs }: SweepRun) =>
      sweeps.observe({ sweep, outcome }, durationMs / 1_000),
    setOutbox: (state: OutboxState) => {
      outboxAge.set(state.oldestDueSeconds);
      parked.set(state.parked);
    },
  };
}

async function countJobs(
  queues: ControlPlane["queues"],
  gauge: Gauge<"queue" | "state">,
): Promise<void> {
  for (const queue of queueNames) {
    const counts = await queues.get(queue).getJobCounts("wait", "active", "delayed", "failed");
    for (const [state, count] of Object.entries(counts)) gauge.set({ queue, state }, count);
  }
}
