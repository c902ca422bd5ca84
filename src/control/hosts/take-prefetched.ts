import type { Prefetched } from "../../contracts/agent-protocol/prefetch.ts";
import { storePrefetched } from "../../db/queries/rollouts/host-images.ts";
import { insertRolloutWakes } from "../../db/queries/rollouts/rollouts.ts";
import type { UnitOfWork } from "../runtime/context.ts";

/**
 * Stores the outcomes of pulls that an agent reports, and wakes the rollouts that wait for them.
 * The caller has locked the host.
 */
export async function takePrefetched(
  tx: UnitOfWork,
  hostId: string,
  prefetched: readonly Prefetched[],
): Promise<void> {
  const serviceIds = await storePrefetched(tx, hostId, prefetched);
  if (serviceIds.length === 0) return;
  await insertRolloutWakes(tx, serviceIds);
  const jobId = `move:${hostId}:images${Date.now()}`;
  tx.enqueue({ name: "move-sets", jobId, payload: { cause: "images-pulled" } });
}
