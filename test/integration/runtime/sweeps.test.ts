import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { claimSweepTurn } from "../../../src/control/runtime/sweep-turns.ts";
import { createRetention } from "../../../src/control/events/retention.ts";
import { jobRegistry } from "../../../src/jobs/registry.ts";
import { relayOutbox } from "../../../src/jobs/sweeps/outbox-relay.ts";
import { type SweepOptions, startSweep } from "../../../src/jobs/sweeps/start-sweep.ts";
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

/** One of several job workers: they share the turn through Postgres. */
function startWorker(options: Pick<SweepOptions, "run"> & Partial<SweepOptions>): void {
  const stop = startSweep({
    name: "test",
    everyMs: 20,
    leaseMs: 600,
    claimTurn: (leaseMs) => claimSweepTurn(plane.ctx, "test", leaseMs),
    log: silentLog,
    ...options,
  });
  stops.push(stop);
}

describe("the turn of a sweep", () => {
  it("runs that last longer than a lease do not overlap between job workers", async () => {
    let running = 0;
    let runningMost = 0;
    let ended = 0;
    const run = async (): Promise<void> => {
      runningMost = Math.max(runningMost, ++running);
      await delay(2_000);
      running--;
      ended++;
    };
    for (let worker = 0; worker < 4; worker++) startWorker({ run });
    await waitUntil("three runs ended", () => ended >= 3, { deadlineMs: 60_000 });
    expect(runningMost).toBe(1);
  });

  it("a run whose turn another process has taken stops before its next item", async () => {
    let isStopped = false;
    startWorker({
      run: async (signal) => {
        await sql`update sweep_turns set next_at = now() + interval '1 minute' where name = 'test'`;
        await waitUntil("the signal aborts", () => signal.aborted, { deadlineMs: 30_000 });
        isStopped = true;
      },
    });
    await waitUntil("the run stopped", () => isStopped, { deadlineMs: 40_000 });
    const [turn] = await sql`select next_at > now() as "isHeld" from sweep_turns`;
    expect(turn).toEqual({ isHeld: true });
  });

  it("a run ends at its longest time, and one that ignores its signal is reported", async () => {
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

  it("a stopped job worker leaves the turn to the others at once", async () => {
    let runs = 0;
    startWorker({ leaseMs: 60_000, run: async () => void runs++ });
    await waitUntil("it ran", () => runs > 0);
    await stops[0]?.();
    const seen = runs;
    startWorker({ leaseMs: 60_000, run: async () => void runs++ });
    await waitUntil("the other ran", () => runs > seen, { deadlineMs: 30_000 });
    expect(runs).toBeGreaterThan(seen);
  });
});

describe("a stop", () => {
  it("ends the relay after its current work, and gives the other rows back", async () => {
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
    await relayOutbox(deps, stopping.signal);
    const left = await sql`select attempts, due_at <= now() as "isDue" from outbox`;
    expect(left).toHaveLength(8);
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
