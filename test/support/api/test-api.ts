import { createConcurrencyLimit } from "../../../src/lib/async/concurrency-limit.ts";
import { openPostgres } from "../../../src/db/postgres/open-postgres.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { createMountedApi } from "../../../src/routes/app.ts";
import type { Api } from "../../../src/routes/http/operation.ts";
import type { JobRequest } from "../../../src/contracts/jobs.ts";
import {
  defaultControlSettings,
  type ControlContext,
} from "../../../src/control/runtime/context.ts";
import { CallerTokenCache } from "../../../src/control/tenancy/token-cache.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { createToken } from "../../../src/control/tenancy/create-token.ts";
import { ensureBootstrap } from "../../../src/control/tenancy/bootstrap.ts";
import { createTenantBody, createTokenBody } from "../../../src/contracts/api/tenancy.ts";
import { assertDeclared, operationOf } from "./declared-answer.ts";
import { createLocalSignals } from "../fakes/local-signals.ts";
import { createLocalSessions } from "../fakes/local-sessions.ts";
import { createLocalStreams } from "../fakes/local-streams.ts";
import { createTestDatabase } from "../servers/test-services.ts";
import { ServiceBatches } from "../../../src/control/services/service-batches.ts";

export interface TestApi {
  api: Api;
  ctx: ControlContext;
  databaseUrl: string;
  /** The enqueued jobs, in order. */
  enqueued: JobRequest[];
  adminToken: string;
  /** Creates a token of a role, for a tenant if one is given. */
  tokenOf(role: string, tenant?: string): Promise<string>;
  /** Creates a tenant unless it exists. */
  ensureTenant(name: string): Promise<void>;
  /**
   * Sends a request like a program. It sends a body that is not a string as JSON. Throws if the
   * operation does not declare the response.
   */
  request(method: string, path: string, options?: TestRequest): Promise<Response>;
  close(): Promise<void>;
}

export interface TestRequest {
  token?: string | undefined;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** The whole API on a database of its own. Jobs and signals stay in this process, without Redis. */
export async function createTestApi(overrides: Partial<ControlContext> = {}): Promise<TestApi> {
  const database = await createTestDatabase();
  const handle = openPostgres({
    databaseUrl: database.url,
    connectionsMax: 12,
    statementTimeoutMs: 10_000,
  });
  const enqueued: JobRequest[] = [];
  const ctx: ControlContext = {
    db: handle.db,
    jobQueue: {
      enqueue: async (jobs) => {
        enqueued.push(...jobs);
      },
    },
    signals: createLocalSignals(),
    streams: createLocalStreams(),
    sessions: createLocalSessions(),
    tokenCache: new CallerTokenCache(),
    reportWriteLimit: createConcurrencyLimit(2),
    hostAnswerLimit: createConcurrencyLimit(2),
    fullAnswerLimit: createConcurrencyLimit(2),
    serviceInserter: new ServiceBatches(handle.db),
    log: silentLog,
    settings: defaultControlSettings,
    ...overrides,
  };
  const { adminSecret } = await ensureBootstrap(ctx);
  if (adminSecret === undefined) throw new Error("a new database has no admin token");
  const api = createMountedApi(ctx, { version: "0.0.0-test", renderMetrics: async () => "up 1\n" });
  const ensureTenant = async (name: string) => {
    if ((await api.findTenantId(name)) === undefined) {
      await createTenant(ctx, createTenantBody.parse({ name }));
    }
  };
  return {
    api,
    ctx,
    databaseUrl: database.url,
    enqueued,
    adminToken: adminSecret,
    ensureTenant,
    tokenOf: async (role, tenant) => {
      if (tenant !== undefined) await ensureTenant(tenant);
      const body = createTokenBody.parse({ name: `${role}-token`, role, tenant });
      return (await createToken(ctx, { tokenId: "tok_test" }, body)).secret;
    },
    request: async (method, path, options = {}) => {
      const response = await api.app.request(path, toInit(method, options));
      const operation = operationOf(api, method, path);
      if (operation) await assertDeclared(operation, response);
      return response;
    },
    close: async () => {
      await handle.close();
      await database.drop();
    },
  };
}

function toInit(method: string, { token, body, headers, signal }: TestRequest): RequestInit {
  return {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** Enrolls a host over HTTP. Returns its id and its credential for /agent/v1. */
export async function enrollTestHost(
  test: TestApi,
  name: string,
): Promise<{ hostId: string; credential: string }> {
  const response = await test.request("POST", "/agent/v1/enroll", {
    token: await test.tokenOf("enroll"),
    body: {
      protocol: 1,
      name,
      agentVersion: "test",
      allocatable: {
        cpuMillis: 8_000,
        memoryBytes: 8 * 2 ** 30,
        volumeBytes: 0,
        rootfsBytes: 100 * 2 ** 30,
      },
    },
  });
  if (response.status !== 201) throw new Error(await response.text());
  return (await response.json()) as { hostId: string; credential: string };
}

/** A sync without news that requests all desired sets. */
export const emptySync = {
  protocol: 1,
  agentVersion: "test",
  acceptedGeneration: 0,
  full: true,
  waitMs: 0,
  observed: [],
  docker: { state: "ok", detail: "" },
  usage: null,
  images: null,
};

/** A service that needs few resources; `parts` replace its members. */
export function serviceBody(name: string, parts: Record<string, unknown> = {}) {
  return {
    name,
    replicas: 2,
    template: {
      cpu: 0.5,
      memory: "64Mi",
      rootfs: "64Mi",
      containers: [{ index: 0, name: "app", image: "app:1", options: { cpu: 100, memory: 100 } }],
    },
    ...parts,
  };
}
