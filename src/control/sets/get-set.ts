import { notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import { findSetById } from "../../db/queries/sets/read-sets.ts";
import type { ControlContext } from "../runtime/context.ts";

/** A live set within the scope (null: of any tenant). Throws not-found. */
export async function getSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  const set = await findSetById(ctx.db, scope, setId);
  if (!set) throw notFound("set");
  return set;
}
