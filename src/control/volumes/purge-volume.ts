import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import { findVolume, requestPurge } from "../../db/queries/volumes/volumes.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { withoutTenantId } from "./list-volumes.ts";
import { notTrashedError } from "./volume-conflict.ts";

/**
 * Requests the purge of a trashed volume before its retention ends. Its host destroys it after its
 * next sync. Throws
 * not-found, state-conflict, and invalid-request when `confirm` is not the volume's id.
 */
export async function purgeVolume(
  ctx: ControlContext,
  scope: string | null,
  volumeId: string,
  { confirm }: { confirm: string },
): Promise<Volume> {
  const volume = await unitOfWork(ctx, async (tx) => {
    const found = await findVolume(tx, scope, volumeId);
    if (!found) throw notFound("volume");
    if (confirm !== volumeId) {
      throw new AppError("invalid-request", {
        detail: "A purge cannot be undone: confirm must be the id of the volume.",
        errors: [{ pointer: "/confirm", detail: `expected ${volumeId}` }],
      });
    }
    await lockHosts(tx, [found.host.id]);
    if (!(await requestPurge(tx, volumeId))) throw notTrashedError(found);
    tx.emit({
      kind: "volume-purging",
      tenantId: found.tenantId,
      setId: found.setId,
      hostId: found.host.id,
      data: { volume: volumeId },
    });
    tx.signal(`host:${found.host.id}`);
    return found;
  });
  return { ...withoutTenantId(volume), purging: true };
}
