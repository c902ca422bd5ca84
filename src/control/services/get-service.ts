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
import { bindWork } from "../runtime/bind-work.ts";
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
/** All readers of one large service share a read. */
const sharedReadLimits = { keysMax: 1_000, batchesMax: 1 };

/**
 * Returns a `getService` that reads concurrent requests in batches, on connections of their own
 * pool: under load a request costs a fraction of a statement. A large service has a statement of
 * its own, for which no other request waits. Its readers share that statement, and one tenant gets
 * a part of the connections. Not for use inside a transaction.
 */
export function createServiceReader(
  ctx: ControlContext,
): (tenantId: string, name: string) => Promise<Service> {
  const read = createBatchedRead<ServiceKey, Service | "large" | undefined>(
    (keys) => findServices(ctx.db, keys),
    batchLimits,
  );
  const readLarge = createLargeServiceReader(ctx);
  return async (tenantId, name) => {
    const service = await read({ tenantId, name });
    if (service === "large") return readLarge({ tenantId, name });
    if (!service) throw notFound("service");
    return service;
  };
}

function createLargeServiceReader(ctx: ControlContext): (key: ServiceKey) => Promise<Service> {
  /** One reader for each large service that is being read. */
  const readers = new Map<string, { read: (key: ServiceKey) => Promise<Service>; calls: number }>();
  return async (key) => {
    const id = `${key.tenantId} ${key.name}`;
    const reader = readers.get(id) ?? { read: createSharedRead(ctx), calls: 0 };
    readers.set(id, reader);
    reader.calls++;
    try {
      return await reader.read(key);
    } finally {
      reader.calls--;
      if (reader.calls === 0) readers.delete(id);
    }
  };
}

/** All calls have the same key. */
function createSharedRead(ctx: ControlContext): (key: ServiceKey) => Promise<Service> {
  return createBatchedRead<ServiceKey, Service>(async (keys) => {
    const [key] = keys;
    assert(key, "a batch has a key");
    const bound = bindWork(ctx, { kind: "request", owner: key.tenantId });
    const service = await getService(bound, key.tenantId, key.name);
    return keys.map(() => service);
  }, sharedReadLimits);
}

/** Reads the service as the open transaction has changed it, for the response to the change. */
export async function readChangedService(
  tx: Queryable,
  tenantId: string,
  name: string,
): Promise<Service> {
  const service = await findService(tx, tenantId, name);
  assert(service, "a service whose row is locked exists");
  return service;
}
