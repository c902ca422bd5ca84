import postgres from "postgres";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type JobRequest, queueNames } from "../../../src/contracts/jobs.ts";
import { createTenantBody } from "../../../src/contracts/api/tenancy.ts";
import { claimDueJobs } from "../../../src/control/runtime/outbox.ts";
import { claimLease } from "../../../src/control/runtime/leases.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { relayOutbox } from "../../../src/jobs/sweeps/outbox-relay.ts";
import { jobRegistry } from "../../../src/jobs/registry.ts";
import { createQueueDashboard } from "../../../src/main/compose/queue-dashboard.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createToken } from "../../../src/control/tenancy/create-token.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { type JobPlane, openJobPlane } from "../../support/fleet/job-plane.ts";
import { takeCensus } from "../../support/fleet/placements.ts";
import { type RedisServer, startRedis } from "../../support/servers/redis-server.ts";
import { waitUntil } from "../../support/wait-until.ts";

let plane: JobPlane;
let sql: postgres.Sql;

async function open(redisUrl?: string): Promise<void> {
  plane = await openJobPlane(redisUrl === undefined ? {} : { redisUrl });
  sql = postgres(plane.database.url, { max: 2, onnotice: () => undefined });
}
async function close(): Promise<void> {
  await sql.end();
  await plane.close();
}

const placeJob = (jobId: string): JobRequest => ({
  name: "place-sets",
  jobId,
  payload: { cause: "test" },
});

const allJobs = [...jobRegistry.keys()];

const relayDeps = () => ({
  ctx: plane.ctx,
  jobQueue: plane.jobQueue,
  registry: jobRegistry,
  placeSets: () => createPlacer(plane.ctx).placeSets(),
  moveSets: async () => 0,
});

describe("enqueuing", () => {
  beforeEach(() => open());
  afterEach(close);

  it("an outbox row that is enqueued several times is one job", async () => {
    const job = placeJob("place:svc_a:gen1");
    for (let count = 0; count < 5; count++) await plane.jobQueue.enqueue([job, job], [7, 7]);
    expect(await plane.queues.get("placement").getJobCounts("wait")).toEqual({ wait: 1 });
  });

  it("two intents are two jobs, though their generation is the same", async () => {
    await plane.jobQueue.enqueue([placeJob("place:svc_a:gen1")], [7]);
    await plane.jobQueue.enqueue([placeJob("place:svc_a:gen1")], [8]);
    expect(await plane.queues.get("placement").getJobCounts("wait")).toEqual({ wait: 2 });
  });

  it("jobs go to the queues of the contract, in one call for many", async () => {
    const jobs = Array.from({ length: 500 }, (_, index): JobRequest => ({
      name: "autoscale-service",
      jobId: `autoscale:svc_${index}:x`,
      payload: { serviceId: `svc_${index}` },
    }));
    await plane.jobQueue.enqueue([...jobs, placeJob("place:svc_a:gen1")], []);
    expect(await plane.queues.get("autoscale").getJobCounts("wait")).toEqual({ wait: 500 });
    expect(await plane.queues.get("placement").getJobCounts("wait")).toEqual({ wait: 1 });
  });

  it("placement jobs enqueued while a call is in flight become one job, which names all their outbox rows", async () => {
    const enqueue = (outboxId: number) =>
      plane.jobQueue.tryEnqueue([placeJob(`place:svc_${outboxId}:gen1`)], [outboxId]);
    const first = enqueue(1);
    await new Promise(setImmediate); // the call of the first job begins
    const others = Array.from({ length: 199 }, (_, index) => enqueue(index + 2));
    expect(new Set(await Promise.all([first, ...others]))).toEqual(new Set([true]));
    const waiting = await plane.queues.get("placement").getJobs("wait");
    expect(waiting).toHaveLength(2);
    const named = waiting.flatMap(({ data }) => (data as { outboxIds: number[] }).outboxIds);
    expect(named.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 200 }, (_, index) => index + 1),
    );
  });

  it("an outbox row stays until the work of its job is done", async () => {
    await createService(plane.ctx, plane.tenantId, serviceBody("web", { replicas: 2 }));
    expect(await plane.queues.get("placement").getJobCounts("wait")).toEqual({ wait: 1 });
    expect((await takeCensus(sql)).outbox).toBe(1);
    plane.startJobs();
    await waitUntil("the outbox is empty", async () => (await takeCensus(sql)).outbox === 0);
  });
});

describe("enqueuing while Redis hangs", () => {
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
    await open(redis.url);
  });
  afterAll(async () => {
    await close();
    await redis.stop();
  });

  it("takes at most a quarter of a second, and does not change the outbox", async () => {
    process.kill(redis.process.pid, "SIGSTOP");
    try {
      await sql`insert into outbox (id, name, job_id, payload) values (7, 'place-sets', 'x', '{}')`;
      const startedAtMs = performance.now();
      await plane.jobQueue.enqueue([placeJob("place:svc_a:gen1")], [7]);
      // without a deadline the call would wait until Redis resumes
      expect(performance.now() - startedAtMs).toBeLessThan(10_000);
      expect((await takeCensus(sql)).outbox).toBe(1);
    } finally {
      process.kill(redis.process.pid, "SIGCONT");
    }
  });
});

describe("job workers", () => {
  beforeEach(() => open());
  afterEach(close);

  it("a service is placed by its job, and a finished job leaves nothing in Redis", async () => {
    await plane.enroll("h1");
    plane.startJobs();
    await createService(plane.ctx, plane.tenantId, serviceBody("web", { replicas: 3 }));
    await waitUntil("all are placed", async () => (await takeCensus(sql)).states["placed"] === 3);
    await waitUntil("the outbox is empty", async () => (await takeCensus(sql)).outbox === 0);
    expect(plane.attempts.length).toBeGreaterThan(0);
    const counts = () =>
      plane.queues.get("placement").getJobCounts("wait", "active", "completed", "failed");
    await expect.poll(counts).toEqual({ wait: 0, active: 0, completed: 0, failed: 0 });
  });

  it("several concurrent job workers place every set once, and book no host beyond its capacity", async () => {
    for (let host = 0; host < 10; host++) await plane.enroll(`h${host}`, 16);
    plane.startJobs();
    plane.startJobs();
    plane.startJobs();
    const services = Array.from({ length: 60 }, (_, index) => `web-${index}`);
    await Promise.all(
      services.map((name) =>
        createService(plane.ctx, plane.tenantId, serviceBody(name, { replicas: 2 })),
      ),
    );
    const isAllPlaced = async () => (await takeCensus(sql)).states["placed"] === 120;
    await waitUntil("all are placed", isAllPlaced);
    expect(await takeCensus(sql)).toMatchObject({ placedTwice: 0, wronglyBooked: 0 });
  });

  it("a job that runs twice at the same time has the effect of one run", async () => {
    await plane.enroll("h1");
    plane.startJobs();
    plane.startJobs();
    const { service } = await createService(
      plane.ctx,
      plane.tenantId,
      serviceBody("web", { replicas: 5 }),
    );
    const jobs = Array.from({ length: 40 }, (_, index): JobRequest[] => [
      placeJob(`again:place:${index}`),
      {
        name: "reconcile-service",
        jobId: `again:reconcile:${index}`,
        payload: { serviceId: service.id, generation: service.generation },
      },
      {
        name: "autoscale-service",
        jobId: `again:scale:${index}`,
        payload: { serviceId: service.id },
      },
    ]).flat();
    for (const job of jobs) await plane.jobQueue.enqueue([job], []);
    await waitUntil("all were attempted", () => plane.attempts.length >= jobs.length);
    expect(plane.attempts.filter(({ outcome }) => outcome === "failed")).toEqual([]);
    expect(await takeCensus(sql)).toMatchObject({
      states: { placed: 5 },
      placedTwice: 0,
      wronglyBooked: 0,
    });
  });

  it("a thousand jobs need only a few runs of the placer", async () => {
    await plane.enroll("h1");
    plane.startJobs();
    const jobs = Array.from({ length: 1_000 }, (_, index) => placeJob(`many:place:${index}`));
    const before = await countCommits();
    for (const job of jobs) await plane.jobQueue.enqueue([job], []);
    await waitUntil("all were attempted", () => plane.attempts.length >= 1_000);
    // Each run is one transaction at least; the sweeps add a few of their own.
    expect((await countCommits()) - before).toBeLessThan(400);
  });

  it("a job of an older generation succeeds and changes nothing", async () => {
    const { service } = await createService(
      plane.ctx,
      plane.tenantId,
      serviceBody("web", { replicas: 4 }),
    );
    await scaleService(plane.ctx, plane.tenantId, "web", { replicas: 5 }, undefined);
    // so that the job would have work
    await sql`delete from sets where service_id = ${service.id}`;
    const deps = {
      ctx: plane.ctx,
      placeSets: () => createPlacer(plane.ctx).placeSets(),
      moveSets: async () => 0,
    };
    const reconcile = jobRegistry.get("reconcile-service");
    const stale = { serviceId: service.id, generation: service.generation };
    expect(await reconcile?.run(deps, stale)).toMatchObject({ outcome: "noop" });
    expect((await takeCensus(sql)).states).toEqual({});
    const present = { ...stale, generation: service.generation + 1 };
    expect(await reconcile?.run(deps, present)).toMatchObject({ outcome: "done", created: 5 });
  });

  it("I1: the sweeps run the work of jobs that a paused queue accepts and never runs", async () => {
    await plane.enroll("h1");
    for (const name of queueNames) await plane.queues.get(name).pause();
    plane.startJobs();
    await createService(plane.ctx, plane.tenantId, serviceBody("web", { replicas: 3 }));
    await waitUntil("all are placed", async () => (await takeCensus(sql)).states["placed"] === 3, {
      deadlineMs: 25_000,
    });
    await waitUntil("the work is done", async () => (await takeCensus(sql)).outbox === 0, {
      deadlineMs: 25_000,
    });
    expect(await takeCensus(sql)).toMatchObject({ placedTwice: 0, wronglyBooked: 0 });
  });

  it("overdue work that fails waits with its error, and stops no other work", async () => {
    const { service } = await createService(plane.ctx, plane.tenantId, serviceBody("web"));
    await sql`delete from outbox`;
    await sql`delete from sets`;
    const job = (name: string, payload: postgres.JSONValue) =>
      sql`insert into outbox (name, job_id, payload, due_at, attempts) values (${name}, ${name}, ${sql.json(payload)}, now(), 1)`;
    await job("reconcile-service", { serviceId: "not an id" });
    await job("autoscale-service", { serviceId: service.id });
    await relayOutbox(relayDeps(), allJobs, new AbortController().signal);
    const rows = await sql`select name, last_error, attempts, due_at > now() as waits from outbox`;
    expect(rows).toEqual([
      {
        name: "reconcile-service",
        last_error: "invalid-request: The payload of a reconcile-service job is not valid.",
        attempts: 2,
        waits: true,
      },
    ]);
  });

  it("I1: overdue work of a newer release's job waits for a job worker that knows the job", async () => {
    await sql`insert into outbox (name, job_id, payload, due_at, attempts)
      values ('a-job-of-the-next-release', 'x', '{}', now(), 1), ('move-sets', 'y', '{"cause": "test"}', now(), 1)`;
    expect(await relayOutbox(relayDeps(), allJobs, new AbortController().signal)).toBe(1);
    const left = await sql`select name, attempts from outbox`;
    expect(left).toEqual([{ name: "a-job-of-the-next-release", attempts: 1 }]);
  });

  it("overdue work is claimed fairly: thousands of one tenant do not delay the first of another", async () => {
    const other = await createTenant(plane.ctx, createTenantBody.parse({ name: "other" }));
    const mine = await createService(plane.ctx, plane.tenantId, serviceBody("mine"));
    const theirs = await createService(plane.ctx, other.id, serviceBody("theirs"));
    await sql`delete from outbox`;
    const add = (serviceId: string, count: number) =>
      sql`insert into outbox (name, job_id, payload, due_at)
          select 'autoscale-service', 'x' || n, ${sql.json({ serviceId })}, now() - interval '1 minute' from generate_series(1, ${count}::int) n`;
    await add(mine.service.id, 2_000);
    await add(theirs.service.id, 1);
    const claimed = await claimDueJobs(plane.ctx, ["autoscale-service"], 10);
    expect(claimed).toHaveLength(10);
    expect(claimed.map(({ payload }) => payload["serviceId"])).toContain(theirs.service.id);
  });

  it("one of twelve job workers gets the lease of the sweeps until it expires", async () => {
    const claim = () => claimLease(plane.ctx, "test", 60_000);
    const leases = await Promise.all(Array.from({ length: 12 }, claim));
    expect(leases.filter((lease) => lease !== undefined)).toHaveLength(1);
    expect(await claim()).toBeUndefined();
    await sql`update sweep_turns set next_at = now() where name = 'test'`;
    const next = await Promise.all(Array.from({ length: 12 }, claim));
    expect(next.filter((lease) => lease !== undefined)).toHaveLength(1);
  });

  it("retries transient failures with exponential backoff", async () => {
    plane.startJobs();
    const { service } = await createService(plane.ctx, plane.tenantId, serviceBody("web"));
    // the job must insert sets again, which fails because the disk is full
    await sql`delete from sets`;
    await sql`create function refuse() returns trigger language plpgsql as
      $$ begin raise exception 'disk full' using errcode = '53100'; end $$`;
    await sql`create trigger refuse before insert on sets execute function refuse()`;
    await plane.jobQueue.enqueue(
      [
        {
          name: "reconcile-service",
          jobId: "passing:fault:1",
          payload: { serviceId: service.id, generation: service.generation },
        },
      ],
      [],
    );
    const outcomes = () =>
      plane.attempts.filter(({ job }) => job === "reconcile-service").map(({ outcome }) => outcome);
    await waitUntil("it failed twice", () => outcomes().length >= 2);
    await sql`drop trigger refuse on sets`;
    await waitUntil(
      "it succeeded",
      () => outcomes().includes("noop") || outcomes().includes("done"),
    );
    expect(outcomes().slice(0, 2)).toEqual(["retry", "retry"]);
  });
});

describe("the queue dashboard", () => {
  let dashboard: ReturnType<typeof createQueueDashboard>;
  beforeAll(async () => {
    await open();
    dashboard = createQueueDashboard(plane.ctx, plane.queues);
    plane.startJobs();
    await plane.jobQueue.enqueue(
      [{ name: "place-sets", jobId: "bad:payload:1", payload: { cause: 42 } }],
      [],
    );
    await waitUntil("it failed", async () => {
      return (await plane.queues.get("placement").getFailedCount()) === 1;
    });
  });
  afterAll(close);

  const basic = (password: string) => `Basic ${Buffer.from(`any:${password}`).toString("base64")}`;
  const get = (path: string, authorization?: string) =>
    dashboard.request(`/ops/queues${path}`, {
      headers: authorization === undefined ? {} : { Authorization: authorization },
    });
  const listFailed = async () =>
    (
      await get("/api/queues?activeQueue=placement&status=failed", `Bearer ${plane.adminToken}`)
    ).json();

  it("shows a permanently failed job with its reason after one attempt", async () => {
    const { queues } = (await listFailed()) as { queues: { name: string; jobs: FailedJob[] }[] };
    const [job] = queues.find((queue) => queue.name === "placement")?.jobs ?? [];
    expect(job).toMatchObject({ id: "bad.payload.1", attempts: 1 });
    expect(job?.failedReason).toContain("payload of a place-sets job");
  });

  it.each([
    ["nobody", undefined],
    ["an unknown token", "Bearer brt_nobody-knows-this-token"],
    ["an unknown password", basic("brt_nobody-knows-this-token")],
    ["an empty password", basic("")],
    ["another scheme", "Digest abc"],
  ])("rejects %s", async (_who, authorization) => {
    for (const path of ["", "/", "/api/queues", "/queue/placement", "/static/none.js"]) {
      const response = await get(path, authorization);
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toContain("Basic");
      expect(await response.text()).not.toContain("bad.payload.1");
    }
  });

  it.each(["operator", "read"] as const)("rejects the role %s", async (role) => {
    const { secret } = await createToken(plane.ctx, { tokenId: "tok_test" }, { name: role, role });
    expect((await get("/api/queues", `Bearer ${secret}`)).status).toBe(401);
  });

  it("accepts an admin's token, as Bearer and as a browser's password", async () => {
    for (const authorization of [`Bearer ${plane.adminToken}`, basic(plane.adminToken)]) {
      const page = await get("", authorization);
      expect(page.status).toBe(200);
      expect(await page.text()).toContain("<title>Berth</title>");
    }
  });

  it("retries a failed job, but rejects cross-site requests", async () => {
    const retry = (site: string) =>
      dashboard.request("/ops/queues/api/queues/placement/bad.payload.1/retry", {
        method: "PUT",
        headers: { Authorization: basic(plane.adminToken), "Sec-Fetch-Site": site },
      });
    const before = plane.attempts.length;
    expect((await retry("cross-site")).status).toBe(403);
    expect(plane.attempts.length).toBe(before);
    expect((await retry("same-origin")).status).toBeLessThan(300);
    await waitUntil("it was attempted again", () => plane.attempts.length > before);
    expect(plane.attempts.at(-1)).toMatchObject({ job: "place-sets", outcome: "failed" });
  });
});

async function countCommits(): Promise<number> {
  await sql`select pg_stat_clear_snapshot()`;
  const [row] = await sql<{ count: number }[]>`
    select xact_commit::int as count from pg_stat_database where datname = current_database()`;
  return row?.count ?? 0;
}

interface FailedJob {
  id: string;
  attempts: number;
  failedReason: string;
}
