import { pingDatabase as ping } from "../../db/queries/runtime/ping.ts";
import type { ControlContext } from "./context.ts";

/** Throws dependency-unavailable if the database does not answer a statement. */
export async function pingDatabase(ctx: ControlContext): Promise<void> {
  await ping(ctx.db);
}
