import {
  insertPreviousMoves,
  insertPreviousOperations,
  listPreviousMoves,
} from "../../db/queries/operations/previous-release.ts";
import { lockHosts } from "../../db/queries/sets/write-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

const SETS_PER_ROUND_MAX = 500;

/**
 * Creates the operations of moves, resizes and replacements that a process of the previous release
 * began during an upgrade. The mover then finishes them. The next round handles those beyond the
 * bound.
 */
export async function adoptPreviousMoves(ctx: ControlContext): Promise<void> {
  await insertPreviousOperations(ctx.db, SETS_PER_ROUND_MAX);
  const moves = await listPreviousMoves(ctx.db, SETS_PER_ROUND_MAX);
  if (moves.length === 0) return;
  await unitOfWork(ctx, async (tx) => {
    await lockHosts(tx, [...new Set(moves.map(({ hostId }) => hostId))]);
    for (const { setId, hostId } of await insertPreviousMoves(tx, moves))
      tx.signal(`host:${hostId}`, `set:${setId}`);
  });
}
