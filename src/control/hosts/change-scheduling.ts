import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import type { Host } from "../../contracts/api/hosts.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { updateHostScheduling } from "../../db/queries/hosts/schedule-hosts.ts";
import { deleteDrain, type DrainOptions, upsertDrain } from "../../db/queries/operations/drains.ts";
import { cancelDrainMoves } from "../../db/queries/operations/end-operations.ts";
import { retryPending } from "../placement/retry-pending.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getHost } from "./get-host.ts";

/** The `moves` sweep cancels the others. */
const DRAIN_MOVES_MAX = 1_000;

/**
 * Changes whether a host is cordoned and draining, and stores or deletes the options of its drain.
 * Throws not-found.
 */
export async function changeScheduling(
  ctx: ControlContext,
  hostId: string,
  scheduling: { cordoned: boolean; draining: boolean },
  kind: "host-cordoned" | "host-uncordoned" | "host-draining",
  drain?: DrainOptions,
): Promise<Host> {
  await unitOfWork(ctx, async (tx) => {
    const host = await updateHostScheduling(tx, hostId, scheduling);
    if (!host) throw notFound("host");
    // The compiler cannot relate the kind to its facts, which are the same for all three kinds.
    const data = { host: host.name, cause: "request" };
    if (host.changed) tx.emit({ kind, data, hostId } as EmittedEvent);
    if (drain) {
      await upsertDrain(tx, hostId, drain);
      return enqueueDrain(tx, hostId, kind);
    }
    await deleteDrain(tx, hostId);
    await cancelDrainMoves(tx, DRAIN_MOVES_MAX);
    if (!scheduling.cordoned) await retryPending(tx, hostId, kind);
  });
  return getHost(ctx, hostId);
}

function enqueueDrain(tx: UnitOfWork, hostId: string, cause: string): void {
  tx.enqueue({ name: "move-sets", jobId: `drain:${hostId}:at${Date.now()}`, payload: { cause } });
}
