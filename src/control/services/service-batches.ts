import { AppError } from "../../contracts/common/app-error.ts";
import { findSqlState } from "../../db/errors.ts";
import { bindWork, type Db } from "../../db/postgres/open-postgres.ts";
import {
  insertServices,
  type NewService,
  type StoredService,
} from "../../db/queries/services/write-services.ts";
import { createBatchedRead } from "../../lib/async/batch-reads.ts";
import type { ServiceInserter } from "../runtime/context.ts";
import { sumServiceAmounts } from "../tenancy/quota.ts";

/** Two, so that a statement that waits for a lock does not stop the tenant's other requests. */
const batchLimits = { keysMax: 50, batchesMax: 2 };
/** Requests of one tenant that wait for a batch or are part of one. */
const CALLERS_PER_TENANT_MAX = 256;

/** Undefined if the service is not stored. Its caller then inserts it in a transaction. */
type BatchOutcome = StoredService | { error: unknown } | undefined;

interface TenantBatches {
  insert: (service: NewService) => Promise<BatchOutcome>;
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

  async insert(
    service: NewService,
    insertChecked: () => Promise<StoredService>,
  ): Promise<StoredService> {
    const { tenantId } = service;
    const batches = this.#tenants.get(tenantId) ?? this.#open(tenantId);
    if (batches.callers >= CALLERS_PER_TENANT_MAX) throw tooManyCreations();
    batches.callers++;
    try {
      const outcome = await batches.insert(service);
      if (outcome && "error" in outcome) throw outcome.error;
      // Still counted as a caller, because this transaction may wait for the tenant's row.
      return outcome ?? (await insertChecked());
    } finally {
      batches.callers--;
      if (batches.callers === 0) this.#tenants.delete(tenantId);
    }
  }

  #open(tenantId: string): TenantBatches {
    const db = bindWork(this.#db, { kind: "request", owner: tenantId });
    const insert = createBatchedRead<NewService, BatchOutcome>(
      (services) => insertBatch(db, tenantId, services),
      batchLimits,
    );
    const batches = { insert, callers: 0 };
    this.#tenants.set(tenantId, batches);
    return batches;
  }
}

/**
 * Inserts the services with one statement. Without an ample quota for all of them, the statement
 * inserts none. Each service then has a statement of its own, because the quota may be ample for
 * most of them.
 */
async function insertBatch(
  db: Db,
  tenantId: string,
  services: readonly NewService[],
): Promise<BatchOutcome[]> {
  const outcomes = await insertWithAmpleQuota(db, tenantId, services);
  if (services.length === 1 || outcomes.some((outcome) => outcome !== undefined)) return outcomes;
  for (const [index, service] of services.entries()) {
    [outcomes[index]] = await insertWithAmpleQuota(db, tenantId, [service]).catch(
      (error: unknown) => [{ error }],
    );
  }
  return outcomes;
}

/**
 * A value that Postgres refuses, or a deadlock with a transaction of another process, fails the
 * whole statement, which then inserts nothing.
 */
async function insertWithAmpleQuota(
  db: Db,
  tenantId: string,
  services: readonly NewService[],
): Promise<BatchOutcome[]> {
  try {
    const growthWithAmpleQuota = sumServiceAmounts(services);
    return await insertServices(db, tenantId, services, { growthWithAmpleQuota });
  } catch (error) {
    const sqlState = findSqlState(error) ?? "";
    const isOfOneService = isRefusedValue.test(sqlState) && services.length > 1;
    if (isOfOneService || isDeadlock.test(sqlState)) return services.map(() => undefined);
    throw error;
  }
}

/** Classes of SQLSTATE: data exceptions and violated constraints. */
const isRefusedValue = /^2[23]/;
/** The class of SQLSTATE for transactions that Postgres rolled back. */
const isDeadlock = /^40/;

function tooManyCreations(): AppError {
  return new AppError("overloaded", {
    detail:
      "Too many requests create services of this tenant now. Nothing was changed. Retry the request later.",
    retryAfterMs: 1_000,
  });
}
