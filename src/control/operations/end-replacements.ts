import { createReason } from "../../contracts/api/reason-texts.ts";
import { waitAgain, wakeOperations } from "../../db/queries/operations/block-operations.ts";
import { endOperations } from "../../db/queries/operations/end-operations.ts";
import {
  listDecidedReplacements,
  type ReplacedSet,
} from "../../db/queries/operations/replacements.ts";
import { wakeRollout } from "../../db/queries/rollouts/rollouts.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { lockHosts, markSetsDeleted } from "../../db/queries/sets/write-sets.ts";
import type { UnitOfWork } from "../runtime/context.ts";

/** Bounds the locks and the time of one transaction. */
const SETS_PER_SERVICE_MAX = 200;
const RETRY_MS_MAX = 60_000;

/** Removes the replaced sets or the replacements, as `listDecidedReplacements` decides. */
export async function endReplacements(tx: UnitOfWork, service: ServiceRow): Promise<number> {
  const decided = await listDecidedReplacements(tx, service.id, SETS_PER_SERVICE_MAX);
  const removedSets = decided.map(getRemoved);
  const hostIds = [...new Set(removedSets.flatMap(({ hostId }) => hostId ?? []))];
  await lockHosts(tx, hostIds);
  const removed = new Set(
    (
      await markSetsDeleted(
        tx,
        removedSets.map(({ id }) => id),
        hostIds,
      )
    ).map(({ id }) => id),
  );
  tx.signal(...hostIds.map((id) => `host:${id}` as const), `service:${service.id}`);
  if (decided.length > 0) {
    await wakeOperations(tx, service.id, SETS_PER_SERVICE_MAX);
    await wakeRollout(tx, service.id);
  }
  for (const replaced of decided) {
    const isRemoved =
      removed.has(getRemoved(replaced).id) ||
      (replaced.outcome !== "ready" && !replaced.isReplacementLive);
    if (!isRemoved) continue; // it was placed meanwhile, on a host that is not locked: next round
    await endReplacement(tx, service, replaced);
    tx.signal(`set:${replaced.setId}`);
  }
  return decided.length;
}

function getRemoved({ outcome, setId, hostId, replacementSetId, replacementHostId }: ReplacedSet) {
  return outcome === "ready"
    ? { id: setId, hostId }
    : { id: replacementSetId, hostId: replacementHostId };
}

async function endReplacement(
  tx: UnitOfWork,
  service: ServiceRow,
  { setId, hostId, replacementSetId, outcome, isForced }: ReplacedSet,
): Promise<void> {
  const about = { tenantId: service.tenantId, serviceId: service.id, setId, hostId };
  switch (outcome) {
    case "ready":
      tx.emit({
        kind: "set-moved",
        data: { cause: "replacement-ready", replacementSetId },
        ...about,
      });
      return;
    case "canceled":
      await endOperations(tx, [setId]);
      tx.emit({ kind: "set-moved", data: { cause: "canceled" }, ...about });
      return;
    case "expired": {
      const reason = createReason("replacement-not-ready", { replacementSetId }, "placement");
      await waitAgain(tx, setId, { reason, retryAfterMs: isForced ? 0 : RETRY_MS_MAX });
      tx.emit({ kind: "set-warning", data: { warning: reason.text }, ...about });
    }
  }
}
