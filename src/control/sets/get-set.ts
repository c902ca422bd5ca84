import { notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { findSetById } from "../../db/queries/sets/read-sets.ts";
import type { ControlContext } from "../runtime/context.ts";

/** Reads a live set within the scope. A null scope means all tenants. Throws not-found. */
export async function getSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  const set = await findSetById(ctx.db, scope, setId);
  if (!set) throw notFound("set");
  return set;
}

/** Reads the set as the open transaction has changed it, for the response to the change. */
export async function readChangedSet(
  tx: Queryable,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  const set = await findSetById(tx, scope, setId);
  if (!set) throw notFound("set");
  return set;
}
