import { listAllHostPools } from "../../db/queries/placement/fleet.ts";
import { findPoolsWithIgnoredSelfTest } from "../placement/ignore-self-tests.ts";
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

/** Counts the hosts whose self test failed. They take no new sets unless it is ignored. */
export function countHostsWithFailedSelfTest(ctx: ControlContext): Promise<number> {
  return countFailedSelfTests(ctx.db);
}

/** Counts the ready hosts that take new sets, because too many hosts of their pool fail (I12). */
export async function countHostsWithIgnoredSelfTest(ctx: ControlContext): Promise<number> {
  const pools = await listAllHostPools(ctx.db);
  const ignored = findPoolsWithIgnoredSelfTest(pools, ctx.settings.lostHostsPercentMax);
  return pools
    .filter(({ name }) => ignored.has(name))
    .reduce((sum, { failedSelfTests }) => sum + failedSelfTests, 0);
}
