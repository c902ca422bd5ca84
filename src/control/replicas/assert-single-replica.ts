import { STATIC_ADDRESS_TEXT } from "../../contracts/api/services.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { hasStaticAddress, type ServiceRow } from "../../db/queries/services/write-services.ts";

/**
 * Checks that a service whose template has a static address has at most one replica. With one
 * replica, this runs no statement. Throws invalid-request.
 */
export async function assertSingleReplica(
  q: Queryable,
  {
    id,
    replicas,
    autoscale,
    revision,
    targetRevision,
  }: Pick<ServiceRow, "id" | "replicas" | "autoscale" | "revision" | "targetRevision">,
): Promise<void> {
  if (replicas <= 1 && (autoscale?.max ?? 1) <= 1) return;
  if (!(await hasStaticAddress(q, id, [revision, targetRevision]))) return;
  const pointer = replicas > 1 ? "/replicas" : "/autoscale/max";
  const detail = STATIC_ADDRESS_TEXT;
  throw new AppError("invalid-request", { detail, errors: [{ pointer, detail }] });
}
