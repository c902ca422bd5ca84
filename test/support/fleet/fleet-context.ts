import { createLocalSessions } from "../fakes/local-sessions.ts";
import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import type { Sync, SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import type { JobRequest } from "../../../src/contracts/jobs.ts";
import type { ResourceAmounts } from "../../../src/contracts/common/primitives.ts";
import { createConcurrencyLimit } from "../../../src/lib/async/concurrency-limit.ts";
import { createServiceBody } from "../../../src/contracts/api/services.ts";
import type { z } from "zod";
import { openPostgres } from "../../../src/db/postgres/open-postgres.ts";
import { findHostLease } from "../../../src/db/queries/hosts/write-hosts.ts";
import { assert } from "../../../src/lib/assert.ts";
import { silentLog } from "../../../src/lib/log.ts";
import {
  defaultControlSettings,
  type ControlContext,
  type ControlSettings,
} from "../../../src/control/runtime/context.ts";
import type { Caller } from "../../../src/contracts/api/caller.ts";
import { CallerTokenCache } from "../../../src/control/tenancy/token-cache.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { createToken } from "../../../src/control/tenancy/create-token.ts";
import { ensureBootstrap } from "../../../src/control/tenancy/bootstrap.ts";
import { enrollHost } from "../../../src/control/hosts/enroll-host.ts";
import { allGrants } from "../../../src/contracts/api/tenancy.ts";
import { createPlacer, type Placer } from "../../../src/control/placement/place-pending-sets.ts";
import { syncHost } from "../../../src/control/hosts/sync-host.ts";
import { createTestDatabase } from "../servers/test-services.ts";
import { tenantBody } from "./tenant-body.ts";
import { ServiceBatches } from "../../../src/control/services/service-batches.ts";

/**
 * A fleet on a database of its own. Tests call the use cases directly, without HTTP and Redis. It
 * records enqueued jobs.
 */
export interface FleetContext {
  ctx: ControlContext;
  databaseUrl: string;
  placer: Placer;
  tenantId: string;
  enqueued: JobRequest[];
  signals: string[];
  /** A context with a second connection pool on the same database, like another process. */
  secondContext(): ControlContext;
  enroll(name: string, options?: HostOptions): Promise<string>;
  sync(hostId: string, report?: Partial<Sync>): ReturnType<typeof syncHost>;
  close(): Promise<void>;
}

export interface HostOptions {
  allocatable?: ResourceAmounts;
  zone?: string;
  rack?: string;
}

const gib = 2 ** 30;
export const smallHost: ResourceAmounts = {
  cpuMillis: 4_000,
  memoryBytes: 8 * gib,
  volumeBytes: 0,
  rootfsBytes: 100 * gib,
};

export async function createFleetContext(
  settings: Partial<ControlSettings> = {},
): Promise<FleetContext> {
  const database = await createTestDatabase();
  const handles = [
    openPostgres({ databaseUrl: database.url, connectionsMax: 8, statementTimeoutMs: 20_000 }),
  ];
  const enqueued: JobRequest[] = [];
  const signals: string[] = [];
  const contextOn = (handle: (typeof handles)[number]): ControlContext => ({
    db: handle.db,
    tokenCache: new CallerTokenCache(),
    reportWriteLimit: createConcurrencyLimit(2),
    hostAnswerLimit: createConcurrencyLimit(2),
    fullAnswerLimit: createConcurrencyLimit(2),
    serviceInserter: new ServiceBatches(handle.db),
    log: silentLog,
    settings: { ...defaultControlSettings, ...settings },
    jobQueue: { enqueue: async (jobs) => void enqueued.push(...jobs) },
    signals: {
      publish: async (channels) => void signals.push(...channels),
      waitFor: async () => false,
    },
    sessions: createLocalSessions(),
    streams: {
      request: async () => undefined,
      takeRequests: async () => [],
      append: async () => undefined,
      end: async () => undefined,
      read: () => ({
        [Symbol.asyncIterator]: () => ({ next: async () => ({ done: true, value: undefined }) }),
      }),
    },
  });
  const [first] = handles;
  if (!first) throw new Error("unreachable: one handle was just opened");
  const ctx = contextOn(first);
  await ensureBootstrap(ctx, { adminSecret: "brt_test-admin-secret-of-enough-length" });
  const tenant = await createTenant(
    ctx,
    tenantBody("food", { setsMax: 100_000, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 }, allGrants),
  );
  return {
    ctx,
    databaseUrl: database.url,
    placer: createPlacer(ctx),
    tenantId: tenant.id,
    enqueued,
    signals,
    secondContext: () => {
      const handle = openPostgres({
        databaseUrl: database.url,
        connectionsMax: 5,
        statementTimeoutMs: 20_000,
      });
      handles.push(handle);
      return contextOn(handle);
    },
    enroll: async (name, options = {}) => {
      const { token } = await createToken(ctx, adminCaller, { name, role: "enroll" });
      const caller: Caller = { ...adminCaller, tokenId: token.id, role: "enroll" };
      const allocatable = options.allocatable ?? smallHost;
      const { hostId } = await enrollHost(ctx, caller, {
        protocol: 1,
        name,
        zone: options.zone ?? "zone-a",
        rack: options.rack ?? "rack-1",
        labels: {},
        allocatable,
        agentVersion: "test",
      });
      await syncAs(ctx, hostId, {
        usage: {
          used: noUsage,
          allocatable,
          reclaimableVolumeBytes: 0,
          trashedVolumeBytes: 0,
          volumeReason: null,
          disk: null,
          setMemoryBytes: {},
        },
      });
      return hostId;
    },
    sync: (hostId, report = {}) => syncAs(ctx, hostId, report),
    close: async () => {
      await Promise.all(handles.map((handle) => handle.close()));
      await database.drop();
    },
  };
}

const noUsage: ResourceAmounts = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };

const adminCaller: Caller = {
  tokenId: "tok_test",
  role: "admin",
  tenantId: null,
  hookId: null,
  pool: null,
};

/** Runs one sync of the host's agent. */
export async function syncAs(
  ctx: ControlContext,
  hostId: string,
  report: Partial<Sync>,
): Promise<SyncResult> {
  const host = await findHostLease(ctx.db, { hostId });
  assert(host, "the host is enrolled");
  return syncHost(ctx, host, emptySync(report), AbortSignal.timeout(10_000));
}

export function emptySync(report: Partial<Sync>): Sync {
  return {
    protocol: 1,
    agentVersion: "test",
    acceptedGeneration: 0,
    full: false,
    waitMs: 0,
    observed: [],
    docker: { state: "ok", detail: "" },
    usage: null,
    images: null,
    volumes: null,
    ...report,
  };
}

/** The report of an agent about a desired set. */
export function observed(
  set: DesiredSet,
  state: ObservedSet["state"],
  more: Partial<ObservedSet> = {},
): ObservedSet {
  return {
    setId: set.setId,
    generation: set.generation,
    state,
    ready: state === "running",
    reason: null,
    gaveUp: false,
    address: state === "running" ? "172.17.0.2" : null,
    sized: true,
    sizeRefused: false,
    containers: [],
    ...more,
  };
}

/** A valid service of one small container; 1 core and 1 GiB a set. */
export function serviceBody(name: string, more: Partial<z.input<typeof createServiceBody>> = {}) {
  return createServiceBody.parse({
    name,
    replicas: 1,
    template: {
      cpu: 1,
      memory: "1Gi",
      rootfs: "1Gi",
      containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
    },
    ...more,
  });
}
