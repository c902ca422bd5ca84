import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { insertMove } from "../../db/queries/operations/start-operations.ts";
import { lockServiceById } from "../../db/queries/services/write-services.ts";
import { listSetsWithVolume } from "../../db/queries/volumes/volumes.ts";
import { mayLeaveVolume } from "../../scheduler/rollout/may-leave-volume.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { findPlacedSet } from "./control-set.ts";
import { readChangedSet } from "./get-set.ts";

/** A move that finds no host within this time ends with the outcome `expired`. */
const DEADLINE_MS = 3_600_000;

/**
 * Creates an operation that moves a set off its host (see docs/internals/operations.md). The mover
 * starts it when another host has capacity and the disruption budget allows it. Until then the set
 * says why it waits. Repeating the request changes nothing more. Throws not-found, and
 * state-conflict when the set's host is lost, another operation is in progress, or the set would
 * leave a volume without `discardVolume` (I13).
 */
export async function moveSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
  { discardVolume = false }: { discardVolume?: boolean | undefined } = {},
): Promise<BerthSet> {
  return unitOfWork(ctx, async (tx) => {
    const { serviceId } = await findPlacedSet(tx, setId, scope, "move");
    const service = await lockServiceById(tx, serviceId);
    if (!service) throw notFound("set");
    const set = await findPlacedSet(tx, setId, scope, "move");
    const { hostId, tenantId } = set;
    if (set.state === "lost") {
      throw conflict(
        "The set's host is lost; the service's `onHostLost` policy decides what happens to it.",
      );
    }
    await assertMayLeaveVolume(tx, { setId, hostId, discardVolume });
    const move = { setId, owner: "person" as const, discardsVolume: discardVolume };
    const isNew = await insertMove(tx, { ...move, deadlineMs: DEADLINE_MS });
    if (!isNew) {
      // The move is already in progress.
      if (set.operation === "move") return readChangedSet(tx, scope, setId);
      throw conflict("Another operation of the set is in progress. Repeat the move when it ends.");
    }
    tx.emit({ kind: "set-moved", data: { cause: "request" }, tenantId, serviceId, setId, hostId });
    const jobId = `move:${setId}:gen${set.generation}`;
    tx.enqueue({ name: "move-sets", jobId, payload: { cause: "set-moved" } });
    tx.signal(`set:${setId}`);
    return readChangedSet(tx, scope, setId);
  });
}

async function assertMayLeaveVolume(
  tx: Queryable,
  { setId, hostId, discardVolume }: { setId: string; hostId: string; discardVolume: boolean },
): Promise<void> {
  const hasVolume = (await listSetsWithVolume(tx, hostId, [setId])).length > 0;
  if (mayLeaveVolume(hasVolume, { kind: "move", discardsVolumes: discardVolume })) return;
  throw conflict(
    'The set has a volume on its host and would start with an empty one elsewhere; the old one goes to the trash. Repeat with "discardVolume": true to accept that.',
  );
}

function conflict(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
