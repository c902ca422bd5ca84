import { countFailedSelfTests } from "../../db/queries/hosts/capabilities.ts";
import { countHeldHosts } from "../../db/queries/hosts/lost-hosts.ts";
import type { Host } from "../../contracts/api/hosts.ts";
import { listHosts as listHostRows } from "../../db/queries/hosts/read-hosts.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStart, toPage } from "../runtime/paging.ts";

export async function listHosts(ctx: ControlContext, page: PageRequest): Promise<Page<Host>> {
  const rows = await listHostRows(ctx.db, pageStart(page), page.limit + 1);
  return toPage(rows, page.limit, (host) => host.id);
}

/**
 * Counts the hosts whose sets are not replaced, because too many hosts of a pool went down
 * together.
 */
export function countHostsHeldFromFailover(ctx: ControlContext): Promise<number> {
  return countHeldHosts(ctx.db);
}

/** Counts the hosts that take no new sets because the self test of their agent failed. */
export function countHostsWithFailedSelfTest(ctx: ControlContext): Promise<number> {
  return countFailedSelfTests(ctx.db);
}
