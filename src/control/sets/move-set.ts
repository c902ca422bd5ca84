import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { isReplaced, markSetsMoving } from "../../db/queries/relocation/moves.ts";
import {
  findServiceById,
  findTemplate,
  lockServiceById,
} from "../../db/queries/services/write-services.ts";
import { withTx } from "../../db/transaction.ts";
import { assert } from "../../lib/assert.ts";
import { findPlacedSet } from "./change-set.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { getSet } from "./get-set.ts";
import { planMoves } from "../placement/find-room.ts";

/**
 * Has a set moved off its host (see move-sets.ts), if the planner finds another for it. Repeating it changes nothing more. Throws
 * not-found, state-conflict, capacity-insufficient.
 */
export async function moveSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  await assertMovable(ctx, scope, setId);
  await unitOfWork(ctx, async (tx) => {
    const { serviceId } = await findPlacedSet(tx, setId, scope, "move");
    const service = await lockServiceById(tx, serviceId);
    if (!service) throw notFound("set");
    const set = await findMovableSet(tx, scope, setId);
    if (!set) return;
    const { hostId, revision } = set;
    await markSetsMoving(tx, [{ setId, revision }]);
    const { tenantId } = service;
    tx.emit({ kind: "set-moved", text: "Move requested", tenantId, serviceId, setId, hostId });
    tx.enqueue({
      name: "move-sets",
      jobId: `move:${setId}:gen${set.generation}`,
      payload: { cause: "set-moved" },
    });
    tx.signal(`set:${setId}`);
  });
  return getSet(ctx, scope, setId);
}

/** Before anything is locked, as the whole fleet is looked at; whoever moves the set asks again. */
async function assertMovable(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<void> {
  const rejection = await withTx(ctx.db, async (tx) => {
    const set = await findMovableSet(tx, scope, setId);
    if (!set) return undefined;
    const service = await findServiceById(tx, set.serviceId);
    if (!service) throw notFound("set");
    const template = await findTemplate(tx, set.serviceId, set.revision);
    assert(template, "the revision of a set exists");
    return planMoves(ctx, tx, service, [{ setId, hostId: set.hostId, template }]);
  });
  if (rejection === undefined) return;
  throw new AppError("capacity-insufficient", {
    detail: `There is no other host for it: ${rejection}`,
  });
}

/** Undefined: it is on its way already. Throws not-found, state-conflict. */
async function findMovableSet(tx: Queryable, scope: string | null, setId: string) {
  const set = await findPlacedSet(tx, setId, scope, "move");
  if (set.leaving || set.moveRevision !== null || (await isReplaced(tx, setId))) return undefined;
  if (set.state === "lost") {
    throw new AppError("state-conflict", {
      detail: "Its host is lost. What becomes of it is its service's policy for lost hosts.",
    });
  }
  return set;
}
