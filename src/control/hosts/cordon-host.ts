import type { Host } from "../../contracts/api/hosts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { changeScheduling } from "./change-scheduling.ts";

/** Cordons a host: it accepts no new sets, and keeps its sets. Idempotent. Throws not-found. */
export function cordonHost(ctx: ControlContext, hostId: string): Promise<Host> {
  return changeScheduling(ctx, hostId, { cordoned: true, draining: false }, "host-cordoned");
}
