import { notFound } from "../../contracts/common/app-error.ts";
import type { Host } from "../../contracts/api/hosts.ts";
import { findHost } from "../../db/queries/hosts/read-hosts.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Reads a host with its last report, whose age `reported.at` shows. Throws not-found. */
export async function getHost(ctx: ControlContext, hostId: string): Promise<Host> {
  const host = await findHost(ctx.db, hostId);
  if (!host) throw notFound("host");
  return host;
}
