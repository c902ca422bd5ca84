import { AppError } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { countRemainingSets, findServiceByName } from "../../db/queries/services/write-services.ts";
import { formatCount } from "../../lib/text/format-count.ts";

/**
 * Throws already-exists if a service has the name. A service that is being deleted keeps its name
 * until its last set is removed, except sets on lost hosts. The error names the number of sets.
 */
export async function assertNameFree(tx: Queryable, tenantId: string, name: string): Promise<void> {
  const service = await findServiceByName(tx, tenantId, name);
  if (!service) return;
  if (!service.deleting)
    throw new AppError("already-exists", { detail: "A service of this name already exists." });
  const sets = await countRemainingSets(tx, service.id);
  throw new AppError("already-exists", {
    detail: `The service of this name is being deleted, and ${formatCount(sets, "set")} still exist${sets === 1 ? "s" : ""}. Retry the request when the deletion is complete.`,
  });
}
