import { notFound } from "../../contracts/common/app-error.ts";
import type { Service } from "../../contracts/api/services.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  findService,
  findServices,
  type ServiceKey,
} from "../../db/queries/services/read-services.ts";
import { assert } from "../../lib/assert.ts";
import { createBatchedRead } from "../../lib/async/batch-reads.ts";
import type { ControlContext } from "../runtime/context.ts";

/** A service with its counts, in one query. Throws not-found. */
export async function getService(
  ctx: ControlContext,
  tenantId: string,
  name: string,
): Promise<Service> {
  const service = await findService(ctx.db, tenantId, name);
  if (!service) throw notFound("service");
  return service;
}

/** More batches in flight would be smaller, and cost more. */
const batchLimits = { keysMax: 100, batchesMax: 2 };

/**
 * Gives a `getService` that reads concurrent requests in batches, on connections of their own pool:
 * under load a request costs a fraction of a statement. A large service has a statement of its own,
 * for which no other request waits. Not for use inside a transaction.
 */
export function createServiceReader(
  ctx: ControlContext,
): (tenantId: string, name: string) => Promise<Service> {
  const read = createBatchedRead<ServiceKey, Service | "large" | undefined>(
    (keys) => findServices(ctx.db, keys),
    batchLimits,
  );
  return async (tenantId, name) => {
    const service = await read({ tenantId, name });
    if (service === "large") return getService(ctx, tenantId, name);
    if (!service) throw notFound("service");
    return service;
  };
}

/** The service as the open transaction has changed it: the answer to a change is what it wrote. */
export async function readChangedService(
  tx: Queryable,
  tenantId: string,
  name: string,
): Promise<Service> {
  const service = await findService(tx, tenantId, name);
  assert(service, "a service whose row is locked exists");
  return service;
}
