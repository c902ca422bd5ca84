import type { Host } from "../contracts/hosts.ts";
import { listHosts as listHostRows } from "../db/queries/host-reads.ts";
import type { ServiceContext } from "./context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "./page.ts";

export async function listHosts(ctx: ServiceContext, page: PageRequest): Promise<Page<Host>> {
  const rows = await listHostRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (host) => host.id);
}
