import type { Host } from "../../contracts/api/hosts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { changeScheduling } from "./change-scheduling.ts";

/** Uncordons a host, and cancels its drain. Throws not-found. */
export function uncordonHost(ctx: ControlContext, hostId: string): Promise<Host> {
  return changeScheduling(ctx, hostId, { cordoned: false, draining: false }, "host-uncordoned");
}
