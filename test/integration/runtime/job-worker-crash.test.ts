import postgres from "postgres";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { type JobPlane, openJobPlane } from "../../support/fleet/job-plane.ts";
import { type MainProcess, startMain } from "../../support/servers/main-process.ts";
import { type PlacementCensus, takeCensus } from "../../support/fleet/placements.ts";
import { waitUntil } from "../../support/wait-until.ts";

/**
 * Job workers in separate processes. A lock on a host's row stops them in the middle of a batch,
 * where the test ends them.
 */

let plane: JobPlane;
let sql: postgres.Sql;
let hostId: string;
const jobWorkers: MainProcess[] = [];

beforeEach(async () => {
  plane = await openJobPlane();
  sql = postgres(plane.database.url, { max: 4, onnotice: () => undefined });
  hostId = await plane.enroll("h1");
  // No agent syncs for the host, and processes start slowly on a busy machine.
  await sql`update hosts set lease_expires_at = now() + interval '1 hour', reported_at = now() + interval '1 hour'`;
});

afterEach(async () => {
  await Promise.all(jobWorkers.splice(0).map((jobWorker) => jobWorker.end("SIGKILL")));
  await sql.end();
  await plane.close();
});

async function startJobWorker(env: Record<string, string> = {}): Promise<MainProcess> {
  const jobWorker = await startMain("job-worker", { ...plane.env, ...env });
  jobWorkers.push(jobWorker);
  return jobWorker;
}

/**
 * Delays the commit of a batch until `release` is called: the batch is planned, and waits for its
 * host's row.
 */
async function holdHost(): Promise<{ release(): Promise<void> }> {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let isHolding = (): void => undefined;
  const holding = new Promise<void>((resolve) => {
    isHolding = resolve;
  });
  const done = sql.begin(async (tx) => {
    await tx`select 1 from hosts where id = ${hostId} for update`;
    isHolding();
    await held;
  });
  await holding;
  return {
    release: async () => {
      release();
      await done;
    },
  };
}

async function createWaitingBatch(): Promise<void> {
  await createService(plane.ctx, plane.tenantId, serviceBody("web", { replicas: 6 }));
  await waitUntil("the batch waits for the host's row", async () => {
    const rows = await sql`
      select 1 from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%hosts%'`;
    return rows.length > 0;
  });
}

const allPlacedOnce = { states: { placed: 6 }, placedTwice: 0, wronglyBooked: 0, outbox: 0 };

async function untilPlaced(): Promise<PlacementCensus> {
  const isDone = async (): Promise<boolean> => {
    const { states, outbox } = await takeCensus(sql);
    return states["placed"] === 6 && outbox === 0;
  };
  await waitUntil("all are placed", isDone);
  return await takeCensus(sql);
}

it(
  "a batch whose job worker was killed in it is placed by another, once",
  { timeout: 300_000 },
  async () => {
    const [first, second] = await Promise.all([startJobWorker(), startJobWorker()]);
    const hold = await holdHost();
    await createWaitingBatch();
    // The test does not know which of the two runs the job, so it kills one after the other.
    await first.end("SIGKILL");
    await startJobWorker();
    await second.end("SIGKILL");
    await hold.release();
    expect(await untilPlaced()).toEqual(allPlacedOnce);
  },
);

it(
  "a job worker that is asked to stop finishes the batch that it is in",
  { timeout: 300_000 },
  async () => {
    const jobWorker = await startJobWorker();
    const hold = await holdHost();
    await createWaitingBatch();
    const ending = jobWorker.end("SIGTERM");
    await waitUntil("it is stopping", () =>
      jobWorker.logLines().some((line) => line["msg"] === "stopping"),
    );
    await hold.release();
    expect(await ending).toBe(0);
    expect(await untilPlaced()).toEqual(allPlacedOnce);
    expect(jobWorker.logLines().at(-1)).toMatchObject({ msg: "stopped", isClean: true });
    const attempts = jobWorker.logLines().filter((line) => line["msg"] === "job");
    expect(attempts).toContainEqual(
      expect.objectContaining({ job: "place-sets", outcome: "done", placed: 6 }),
    );
  },
);

it(
  "a stop is bounded in time, and another job worker takes over its jobs",
  { timeout: 300_000 },
  async () => {
    const jobWorker = await startJobWorker({ BERTH_SHUTDOWN_TIMEOUT_MS: "1500" });
    const hold = await holdHost();
    await createWaitingBatch();
    const startedAtMs = performance.now();
    expect(await jobWorker.end("SIGTERM")).toBe(0);
    // the host stays locked until later
    expect(performance.now() - startedAtMs).toBeLessThan(30_000);
    await startJobWorker();
    await hold.release();
    expect(await untilPlaced()).toEqual(allPlacedOnce);
  },
);
