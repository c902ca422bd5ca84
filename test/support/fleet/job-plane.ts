import { openPostgres } from "../../../src/db/postgres/open-postgres.ts";
import type { JobAttempt } from "../../../src/jobs/queue/job-runner.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { Shutdown } from "../../../src/lib/shutdown.ts";
import {
  type ControlPlane,
  subscribeSignals,
  openControlPlane,
  startJobs,
} from "../../../src/main/compose/control-plane.ts";
import type { ProcessContext } from "../../../src/main/compose/run-process.ts";
import { defaultControlSettings } from "../../../src/control/runtime/context.ts";
import type { Caller } from "../../../src/contracts/api/caller.ts";
import { createToken } from "../../../src/control/tenancy/create-token.ts";
import { ensureBootstrap } from "../../../src/control/tenancy/bootstrap.ts";
import { enrollHost } from "../../../src/control/hosts/enroll-host.ts";
import { getTenantByName } from "../../../src/control/tenancy/get-tenant-by-name.ts";
import { syncAs } from "./fleet-context.ts";
import {
  createTestDatabase,
  createTestRedis,
  type TestDatabase,
} from "../servers/test-services.ts";

/**
 * The parts of an api process and a job worker, in this process, on a database and a Redis of its
 * own.
 */
export interface JobPlane extends ControlPlane {
  database: TestDatabase;
  redisUrl: string;
  prefix: string;
  /** Environment of processes on the same database and Redis. */
  env: Record<string, string>;
  /** Completed attempts of the job workers in this process, in order. */
  attempts: JobAttempt[];
  adminToken: string;
  /** The id of the tenant "default". */
  tenantId: string;
  /** Enrolls a host with a first report. */
  enroll(name: string, cores?: number): Promise<string>;
  /** Starts one more job worker in this process. */
  startJobs(): void;
  close(): Promise<void>;
}

const adminToken = "brt_an-admin-of-the-job-tests";
const admin: Caller = {
  tokenId: "tok_test",
  role: "admin",
  tenantId: null,
  hookId: null,
  pool: null,
};

/** @param redisUrl replaces the shared Redis, for tests that disturb it */
export async function openJobPlane({
  redisUrl,
  statementTimeoutMs = 20_000,
}: { redisUrl?: string; statementTimeoutMs?: number } = {}): Promise<JobPlane> {
  const database = await createTestDatabase();
  const shared = redisUrl === undefined ? await createTestRedis() : undefined;
  const redisTarget = redisUrl ?? shared?.url ?? "";
  const prefix = shared?.prefix ?? "berth";
  const shutdown = new Shutdown({ log: silentLog, deadlineMs: 20_000 });
  const running: ProcessContext = {
    log: silentLog,
    shutdown,
    version: "test",
    stop: () => undefined,
  };
  const plane = await openControlPlane(
    {
      database: openPostgres({
        databaseUrl: database.url,
        connectionsMax: 10,
        statementTimeoutMs,
      }),
      redisTarget,
      redisPrefix: prefix,
      settings: defaultControlSettings,
    },
    running,
  );
  await subscribeSignals(plane, running);
  const { ctx } = plane;
  await ensureBootstrap(ctx, { adminSecret: adminToken });
  const attempts: JobAttempt[] = [];
  return {
    ...plane,
    database,
    redisUrl: redisTarget,
    prefix,
    env: { DATABASE_URL: database.url, REDIS_URL: redisTarget, BERTH_REDIS_PREFIX: prefix },
    attempts,
    adminToken,
    tenantId: (await getTenantByName(ctx, "default")).id,
    enroll: (name, cores = 64) => enroll(plane, name, cores),
    startJobs: () =>
      startJobs(
        plane,
        {
          redisTarget,
          redisPrefix: prefix,
          shutdownTimeoutMs: 20_000,
          onAttempt: (attempt) => attempts.push(attempt),
        },
        running,
      ),
    close: async () => {
      plane.signals.close();
      if (!(await shutdown.run())) throw new Error("something did not close");
      await database.drop();
      await shared?.release();
    },
  };
}

async function enroll({ ctx }: ControlPlane, name: string, cores: number): Promise<string> {
  const { token } = await createToken(ctx, admin, { name, role: "enroll" });
  const allocatable = {
    cpuMillis: cores * 1_000,
    memoryBytes: cores * 2 ** 32,
    volumeBytes: 0,
    rootfsBytes: cores * 2 ** 33,
  };
  const { hostId } = await enrollHost(
    ctx,
    { ...admin, tokenId: token.id, role: "enroll" },
    {
      protocol: 1,
      name,
      zone: "default",
      rack: "default",
      labels: {},
      allocatable,
      agentVersion: "test",
    },
  );
  const used = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
  await syncAs(ctx, hostId, {
    usage: {
      used,
      allocatable,
      reclaimableVolumeBytes: 0,
      trashedVolumeBytes: 0,
      volumeReason: null,
      disk: null,
      setMemoryBytes: {},
    },
  });
  return hostId;
}
