import type { Host } from "../../contracts/api/hosts.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { listGatewayServices } from "../../db/queries/networks/gateways.ts";
import { updateHostLabels } from "../../db/queries/hosts/schedule-hosts.ts";
import { retryPending } from "../placement/retry-pending.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getHost } from "./get-host.ts";

/**
 * Replaces the labels or taints of a host, for future placements, or its group of gateways. Throws
 * not-found, and generation-mismatch if the host has a different generation than `generation`. If
 * it is undefined, every generation matches.
 */
export async function patchHost(
  ctx: ControlContext,
  hostId: string,
  generation: number | undefined,
  change: {
    labels?: Record<string, string> | undefined;
    taints?: { key: string; value: string }[] | undefined;
    gatewayGroup?: string | null | undefined;
  },
): Promise<Host> {
  const hasChanged = await unitOfWork(ctx, async (tx) => {
    if (!(await updateHostLabels(tx, hostId, generation, change))) return false;
    if (change.gatewayGroup !== undefined)
      for (const serviceId of await listGatewayServices(tx, hostId))
        tx.signal(`service:${serviceId}`);
    await retryPending(tx, hostId, "host-changed");
    return true;
  });
  const host = await getHost(ctx, hostId);
  if (!hasChanged) {
    assertGeneration(host, generation, "host");
    throw notFound("host");
  }
  return host;
}
