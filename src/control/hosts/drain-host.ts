import type { DrainHost, Host } from "../../contracts/api/hosts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { changeScheduling } from "./change-scheduling.ts";

/**
 * Drains a host: it accepts no new sets, and the mover moves its sets (see
 * docs/internals/operations.md). A job starts the mover, because its locks of many services do not
 * belong in this transaction. A repeated drain replaces the options. Throws not-found.
 */
export function drainHost(
  ctx: ControlContext,
  hostId: string,
  { deadlineSeconds, force = false, discardVolumes = false }: DrainHost = {},
): Promise<Host> {
  return changeScheduling(ctx, hostId, { cordoned: true, draining: true }, "host-draining", {
    deadlineSeconds,
    isForced: force,
    discardsVolumes: discardVolumes,
  });
}
