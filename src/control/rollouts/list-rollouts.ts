import { notFound } from "../../contracts/common/app-error.ts";
import type { Rollout } from "../../contracts/api/rollout-answers.ts";
import { listRollouts as listRolloutRows } from "../../db/queries/rollouts/read-rollouts.ts";
import { findServiceByName } from "../../db/queries/services/write-services.ts";
import type { ControlContext } from "../runtime/context.ts";
import { type Page, type PageRequest, pageStartNumber, toPage } from "../runtime/paging.ts";

/** The rollouts of a service, the newest first. Throws not-found. */
export async function listRollouts(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  page: PageRequest,
): Promise<Page<Rollout>> {
  const before = pageStartNumber(page);
  const rows = await listRolloutRows(ctx.db, tenantId, name, before, page.limit + 1);
  if (rows.length === 0 && !(await findServiceByName(ctx.db, tenantId, name)))
    throw notFound("service");
  return toPage(rows, page.limit, ({ number }) => String(number));
}
