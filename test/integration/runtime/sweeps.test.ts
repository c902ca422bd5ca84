import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { claimLease } from "../../../src/control/runtime/leases.ts";
import type { JobName } from "../../../src/contracts/jobs.ts";
import { createRetention } from "../../../src/control/events/retention.ts";
import { jobRegistry } from "../../../src/jobs/registry.ts";
import { relayOutbox } from "../../../src/jobs/sweeps/outbox-relay.ts";
import type { DefinedJob } from "../../../src/jobs/queue/define-job.ts";
import { type LeadOptions, leadSweeps } from "../../../src/jobs/sweeps/lead-sweeps.ts";
import type { Sweep } from "../../../src/jobs/sweeps/repeat-sweep.ts";
import { startSweeps } from "../../../src/jobs/sweeps/start-sweeps.ts";
import { withTimeout } from "../../../src/lib/async/with-timeout.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { type JobPlane, openJobPlane } from "../../support/fleet/job-plane.ts";
import { waitUntil } from "../../support/wait-until.ts";

let plane: JobPlane;
let sql: postgres.Sql;
let stops: (() => Promise<void>)[];

beforeEach(async () => {
  plane = await openJobPlane();
  sql = postgres(plane.database.url, { max: 2, onnotice: () => undefined });
  stops = [];
});
afterEach(async () => {
  await Promise.all(stops.map((stop) => stop()));
  await sql.end();
  await plane.close();
});

type WorkerOptions = Partial<Omit<LeadOptions, "sweeps">> & {
  run: Sweep["run"];
  everyMs?: number;
};

/** One of several job workers: they share the lease through Postgres. Returns its stop. */
function startWorker({ run, everyMs = 20, ...options }: WorkerOptions): () => Promise<void> {
  const stop = leadSweeps({
    sweeps: [{ name: "test", everyMs, run }],
    claimLease: claimTestLease,
    leaseMs: 600,
    claimEveryMs: 50,
    log: silentLog,
    ...options,
  });
  stops.push(stop);
  return stop;
}

const claimTestLease = (leaseMs: number) => claimLease(plane.ctx, "test", leaseMs);

describe("the lease of the sweeps", () => {
  it("runs that last longer than a lease do not overlap between job workers", async () => {
    let running = 0;
    let runningMost = 0;
    let ended = 0;
    const run = async (): Promise<void> => {
      runningMost = Math.max(runningMost, ++running);
      await delay(6_000);
      running--;
      ended++;
    };
    for (let worker = 0; worker < 4; worker++) startWorker({ run, leaseMs: 4_000 });
    await waitUntil("two runs ended", () => ended >= 2, { deadlineMs: 60_000 });
    expect(runningMost).toBe(1);
  });

  it("a job worker without the lease watches the fleet", async () => {
    expect(await claimLease(plane.ctx, "sweeps", 600_000)).toBeDefined();
    plane.startJobs();
    const isWatched = async () => (await sql`select from fleet_watch`).length === 1;
    await waitUntil("the watch is recorded", isWatched, { deadlineMs: 30_000 });
  });

  it("one of twelve job workers runs all sweeps, with one claim for many runs", async () => {
    const runs = new Map<number, number>();
    let claims = 0;
    for (let worker = 0; worker < 12; worker++)
      startWorker({
        leaseMs: 60_000,
        claimLease: async (leaseMs) => {
          const lease = await claimTestLease(leaseMs);
          if (lease) claims++;
          return lease;
        },
        run: async () => void runs.set(worker, (runs.get(worker) ?? 0) + 1),
      });
    const runsMost = () => Math.max(0, ...runs.values());
    await waitUntil("one ran often", () => runsMost() >= 50, { deadlineMs: 60_000 });
    expect(runs.size).toBe(1);
    expect(claims).toBe(1);
  });

  it("a job worker that dies is replaced when its lease has expired", async () => {
    const dead = await claimTestLease(600);
    expect(dead).toBeDefined();
    expect(await claimTestLease(600)).toBeUndefined();
    let runs = 0;
    startWorker({ run: async () => void runs++ });
    await waitUntil("the other ran", () => runs > 0, { deadlineMs: 30_000 });
    expect(await dead?.renew()).toBe(false);
  });

  it("a renewal whose answer is lost does not give the lease up", async () => {
    const lease = await claimTestLease(60_000);
    // Such a renewal changes the row, and the process does not learn the new expiry.
    await sql`update sweep_turns set next_at = now() + interval '90 seconds' where name = 'test'`;
    expect(await lease?.renew()).toBe(true);
    expect(await claimTestLease(60_000)).toBeUndefined();
    await sql`update sweep_turns set next_at = now() + interval '90 seconds' where name = 'test'`;
    await lease?.release();
    expect(await claimTestLease(60_000)).toBeDefined();
  });

  it("a holder whose lease another process has claimed neither renews nor releases it", async () => {
    const former = await claimTestLease(1);
    await delay(10);
    const current = await claimTestLease(60_000);
    expect(await former?.renew()).toBe(false);
    await former?.release();
    expect(await claimTestLease(60_000)).toBeUndefined();
    expect(await current?.renew()).toBe(true);
  });

  it("a holder that pauses neither renews nor releases what the previous release has claimed", async () => {
    let claims = 0;
    let paused = false;
    await sql`select 1`; // so that the statement below is sent immediately
    const run = async (): Promise<void> => {
      if (paused) return;
      paused = true;
      // The previous release claims an expired lease without storing itself as the holder.
      const claimed = sql.unsafe(
        `select pg_sleep(0.9); update sweep_turns set next_at = clock_timestamp() + interval '1 minute'
         where name = 'test' and next_at <= clock_timestamp()`,
      );
      void claimed.execute();
      await delay(20);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
      await claimed;
    };
    startWorker({
      run,
      claimLease: async (leaseMs) => {
        const lease = await claimTestLease(leaseMs);
        claims++;
        return lease;
      },
    });
    await waitUntil("the worker tries to claim again", () => claims > 1, { deadlineMs: 30_000 });
    const [lease] =
      await sql`select next_at > now() + interval '20 seconds' as "isHeld" from sweep_turns where name = 'test'`;
    expect(lease).toEqual({ isHeld: true });
  });

  it("a run stops before its next item when another process has claimed the lease", async () => {
    let isStopped = false;
    startWorker({
      run: async (signal) => {
        await sql`update sweep_turns set next_at = now() + interval '1 minute', holder = 'other' where name = 'test'`;
        await waitUntil("the signal aborts", () => signal.aborted, { deadlineMs: 30_000 });
        isStopped = true;
      },
    });
    await waitUntil("the run stopped", () => isStopped, { deadlineMs: 40_000 });
    const [lease] =
      await sql`select next_at > now() as "isHeld" from sweep_turns where name = 'test'`;
    expect(lease).toEqual({ isHeld: true });
  });

  it("a run stops before its next item when Postgres does not answer for a lease", async () => {
    let aborted = 0;
    startWorker({
      claimLease: async (leaseMs) => {
        const lease = await claimTestLease(leaseMs);
        return lease && { ...lease, renew: () => Promise.reject(new Error("no answer")) };
      },
      run: async (signal) => {
        await waitUntil("the signal aborts", () => signal.aborted, { deadlineMs: 30_000 });
        aborted++;
      },
    });
    await waitUntil("the worker leads again", () => aborted > 1, { deadlineMs: 60_000 });
    expect(aborted).toBeGreaterThan(1);
  });

  it("a run ends at its time limit, and one that ignores its signal is reported", async () => {
    let aborted = 0;
    let hung = 0;
    startWorker({
      runMaxMs: 500,
      onHung: () => hung++,
      run: async (signal) => {
        await waitUntil("the run is reported", () => hung > 0, { deadlineMs: 30_000 });
        if (signal.aborted) aborted++;
      },
    });
    await waitUntil("the run ended", () => aborted > 0, { deadlineMs: 40_000 });
    expect(hung).toBeGreaterThan(0);
  });

  it("a stopped job worker releases the lease immediately", async () => {
    let runs = 0;
    const run = async () => void runs++;
    const stop = startWorker({ leaseMs: 600_000, run });
    await waitUntil("it ran", () => runs > 0, { deadlineMs: 30_000 });
    await stop();
    const seen = runs;
    startWorker({ leaseMs: 600_000, run });
    await waitUntil("the other ran", () => runs > seen, { deadlineMs: 30_000 });
    expect(runs).toBeGreaterThan(seen);
  });

  it("a sweep that fails stops neither itself nor the others", async () => {
    const runs = { failing: 0, other: 0 };
    const failing = async (): Promise<never> => {
      runs.failing++;
      throw new Error("it fails");
    };
    const stop = leadSweeps({
      sweeps: [
        { name: "failing", everyMs: 20, run: failing },
        { name: "other", everyMs: 20, run: async () => void runs.other++ },
      ],
      claimLease: claimTestLease,
      claimEveryMs: 50,
      log: silentLog,
    });
    stops.push(stop);
    const isRunning = () => Math.min(runs.failing, runs.other) > 2;
    await waitUntil("both ran again", isRunning, { deadlineMs: 30_000 });
    expect(isRunning()).toBe(true);
  });
});

describe("the relay", () => {
  const relay = (run: DefinedJob["run"], timeoutMs: number) => {
    const registry = new Map(
      [...jobRegistry].map(([name, job]) => [name, { ...job, timeoutMs, run }]),
    );
    const { ctx, jobQueue } = plane;
    const deps = { ctx, jobQueue, registry, moveSets: async () => 0, placeSets: neverPlaces };
    return relayOutbox(deps, [...registry.keys()], new AbortController().signal);
  };
  const insertDueWork = (rows: number) => sql`
    insert into outbox (name, job_id, payload, due_at, attempts)
    select 'autoscale-service', 'x' || n, jsonb_build_object('serviceId', 'svc_' || n), now(), 1
    from generate_series(1, ${rows}) n`;

  it("runs other work while one piece of work waits", async () => {
    await insertDueWork(6);
    let others = 0;
    let isFirst = true;
    await relay(async () => {
      if (isFirst) {
        isFirst = false;
        await waitUntil("the other work is done", () => others === 5);
      } else others += 1;
      return { outcome: "done" };
    }, 60_000);
    expect(others).toBe(5);
    expect(await sql`select last_error from outbox`).toEqual([]);
  });

  it("stops waiting for work after the timeout of its job, and stores the error", async () => {
    await insertDueWork(1);
    expect(await relay(() => new Promise(() => undefined), 100)).toBe(1);
    const [row] = await sql`select last_error, due_at > now() as waits from outbox`;
    expect(row).toEqual({ last_error: expect.stringContaining("within 100 ms"), waits: true });
  });
});

describe("the relay of shared jobs", () => {
  it("a long round of moves delays no other overdue work, and stops with the sweeps", async () => {
    const rounds: (() => void)[] = [];
    const moveSets = (signal?: AbortSignal) =>
      new Promise<number>((resolve) => {
        const end = (): void => resolve(0);
        rounds.push(end);
        signal?.addEventListener("abort", end, { once: true });
      });
    const insertOverdue = (name: JobName, payload: postgres.JSONValue) =>
      sql`insert into outbox (name, job_id, payload, due_at, attempts)
        values (${name}, ${name}, ${sql.json(payload)}, now(), 1)`;
    const readRow = async (name: JobName) => {
      const [row] =
        await sql`select attempts, due_at <= now() as "isDue" from outbox where name = ${name}`;
      return row;
    };
    await insertOverdue("move-sets", { cause: "test" });
    const { ctx, jobQueue } = plane;
    const deps = { ctx, jobQueue, registry: jobRegistry, moveSets, placeSets: neverPlaces };
    const sweeps = startSweeps(deps);
    const stop = async (): Promise<boolean> => {
      const isStopped = await withTimeout(
        sweeps.stop().then(() => true),
        30_000,
        false,
      );
      for (const end of rounds) end();
      return isStopped;
    };
    stops.push(async () => void (await stop()));
    const isRoundRunning = async () => (await readRow("move-sets"))?.["attempts"] === 2;
    await waitUntil("the round runs", isRoundRunning, { deadlineMs: 30_000 });
    await insertOverdue("autoscale-service", { serviceId: `svc_${"0".repeat(26)}` });
    const isDone = async () => (await readRow("autoscale-service")) === undefined;
    await waitUntil("the other work is done", isDone, { deadlineMs: 30_000 });
    expect(await stop()).toBe(true);
    // The round ended early, so its row stays for the next relay.
    expect(await readRow("move-sets")).toEqual({ attempts: 1, isDue: true });
  });
});

describe("a stop", () => {
  it("ends the relay after the work in progress, and releases the other rows", async () => {
    const stopping = new AbortController();
    const registry = new Map(
      [...jobRegistry].map(([name, job]) => [
        name,
        {
          ...job,
          run: async (...args: Parameters<typeof job.run>) => {
            const outcome = await job.run(...args);
            stopping.abort();
            return outcome;
          },
        },
      ]),
    );
    await sql`insert into outbox (name, job_id, payload, due_at, attempts)
      select 'autoscale-service', 'x' || n, jsonb_build_object('serviceId', 'svc_0000000000000000000000000' || n), now(), 1
      from generate_series(1, 9) n`;
    const { ctx, jobQueue } = plane;
    const deps = { ctx, jobQueue, registry, moveSets: async () => 0, placeSets: neverPlaces };
    await relayOutbox(deps, [...registry.keys()], stopping.signal);
    const left = await sql`select attempts, due_at <= now() as "isDue" from outbox`;
    // Four pieces of work were in progress.
    expect(left).toHaveLength(5);
    expect(new Set(left.map(({ attempts, isDue }) => `${attempts} ${isDue}`))).toEqual(
      new Set(["1 true"]),
    );
  });

  it("ends retention before its next round", async () => {
    await sql`insert into idempotency_keys (scope, key, request_hash, status, body, created_at)
      values ('s', 'k', 'h', 200, '', now() - interval '9 days')`;
    const retention = createRetention(plane.ctx);
    expect(await retention.run(AbortSignal.abort())).toEqual({ deleted: 0, failed: [] });
    expect(await retention.run()).toMatchObject({ deleted: 1 });
  });
});

async function neverPlaces(): Promise<never> {
  throw new Error("no placement is due");
}
