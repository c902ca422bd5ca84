import { pingDatabase as ping } from "../../db/queries/runtime/ping.ts";
import type { ControlContext } from "./context.ts";

/** Resolves when the database answers a statement; throws dependency-unavailable when it does not. */
export async function pingDatabase(ctx: ControlContext): Promise<void> {
  await ping(ctx.db);
}
