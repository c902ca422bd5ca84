import type { Rule } from "../../contracts/api/rules.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { findRule } from "../../db/queries/rules/read-rules.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Reads a rule of a tenant. Throws not-found. */
export async function getRule(ctx: ControlContext, tenantId: string, name: string): Promise<Rule> {
  const row = await findRule(ctx.db, tenantId, name);
  if (!row) throw notFound("rule");
  return row.rule;
}
