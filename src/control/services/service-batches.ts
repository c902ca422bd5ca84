import { AppError } from "../../contracts/common/app-error.ts";
import { sqlStateOf } from "../../db/errors.ts";
import { bindWork, type Db } from "../../db/postgres/open-postgres.ts";
import {
  insertServices,
  type NewService,
  type StoredService,
} from "../../db/queries/services/write-services.ts";
import { createBatchedRead } from "../../lib/async/batch-reads.ts";
import type { ServiceInserter } from "../runtime/context.ts";
import { growthOfServices } from "../tenancy/quota.ts";

/** Two, so that a statement that waits for a lock does not stop the tenant's other requests. */
const batchLimits = { keysMax: 50, batchesMax: 2 };
/** Requests of one tenant that wait for a batch or are part of one. */
const CALLERS_PER_TENANT_MAX = 256;

interface TenantBatches {
  insert: (service: NewService) => Promise<StoredService | undefined>;
  callers: number;
}

/**
 * Inserts services in batches, one tenant per batch: no tenant waits for the locks of another
 * (I15). A single request is a batch of one, and waits for nothing.
 */
export class ServiceBatches implements ServiceInserter {
  readonly #db: Db;
  readonly #tenants = new Map<string, TenantBatches>();

  constructor(db: Db) {
    this.#db = db;
  }

  async insert(service: NewService): Promise<StoredService | undefined> {
    const { tenantId } = service;
    const batches = this.#tenants.get(tenantId) ?? this.#open(tenantId);
    if (batches.callers >= CALLERS_PER_TENANT_MAX) throw tooManyCreations();
    batches.callers++;
    try {
      return await batches.insert(service);
    } finally {
      batches.callers--;
      if (batches.callers === 0) this.#tenants.delete(tenantId);
    }
  }

  #open(tenantId: string): TenantBatches {
    const db = bindWork(this.#db, { kind: "request", owner: tenantId });
    const insert = createBatchedRead<NewService, StoredService | undefined>(
      (services) => insertBatch(db, tenantId, services),
      batchLimits,
    );
    const batches = { insert, callers: 0 };
    this.#tenants.set(tenantId, batches);
    return batches;
  }
}

/**
 * A value that Postgres refuses fails the whole statement. Then it inserts nothing, and each caller
 * inserts its own service.
 */
async function insertBatch(
  db: Db,
  tenantId: string,
  services: readonly NewService[],
): Promise<(StoredService | undefined)[]> {
  try {
    const farFromQuota = growthOfServices(services);
    return await insertServices(db, tenantId, services, { farFromQuota });
  } catch (error) {
    const isRefused = /^2[23]/.test(sqlStateOf(error) ?? "");
    if (services.length === 1 || !isRefused) throw error;
    return services.map(() => undefined);
  }
}

function tooManyCreations(): AppError {
  return new AppError("overloaded", {
    detail:
      "Too many requests create services of this tenant now. Nothing was changed. Retry the request later.",
    retryAfterMs: 1_000,
  });
}
