import { notFound } from "../contracts/app-error.ts";
import type { BerthSet } from "../contracts/sets.ts";
import { findSetById } from "../db/queries/set-reads.ts";
import type { ServiceContext } from "./context.ts";

/** A live set within the scope (null: of any tenant). Throws not-found. */
export async function getSet(
  ctx: ServiceContext,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  const set = await findSetById(ctx.db, scope, setId);
  if (!set) throw notFound("set");
  return set;
}
