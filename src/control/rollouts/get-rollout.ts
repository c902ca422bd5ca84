import { notFound } from "../../contracts/common/app-error.ts";
import type { Rollout } from "../../contracts/api/rollout-answers.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { findRollout } from "../../db/queries/rollouts/read-rollouts.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";

/** A rollout with its counts and its sets in progress. Throws not-found. */
export async function getRollout(
  ctx: ControlContext,
  tenantId: string,
  service: string,
  number: number,
): Promise<Rollout> {
  const rollout = await findRollout(ctx.db, tenantId, service, number);
  if (!rollout) throw notFound("rollout");
  return rollout;
}

/** Reads a rollout as the open transaction has changed it. */
export async function readChangedRollout(
  tx: Queryable,
  tenantId: string,
  service: string,
  number: number,
): Promise<Rollout> {
  const rollout = await findRollout(tx, tenantId, service, number);
  assert(rollout, "a rollout of a locked service exists");
  return rollout;
}
