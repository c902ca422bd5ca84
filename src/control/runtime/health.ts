import { pingDatabase as ping } from "../../db/queries/runtime/ping.ts";
import type { ServiceContext } from "./context.ts";

/** Resolves when the database answers a statement; throws dependency-unavailable when it does not. */
export async function pingDatabase(ctx: ServiceContext): Promise<void> {
  await ping(ctx.db);
}
