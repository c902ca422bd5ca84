import { deleteOutbox, listOutbox, type OutboxRow } from "../../db/queries/runtime/outbox.ts";
import type { ControlContext } from "./context.ts";

export type OutboxEntry = OutboxRow;

/** Jobs that should have been rung by now, oldest first. */
export function readOutbox(
  ctx: ControlContext,
  ageMs: number,
  limit: number,
): Promise<OutboxEntry[]> {
  return listOutbox(ctx.db, ageMs, limit);
}

/** Forgets jobs that are rung or done. */
export function removeFromOutbox(
  ctx: Pick<ControlContext, "db">,
  ids: readonly number[],
): Promise<void> {
  return deleteOutbox(ctx.db, ids);
}
