import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  findSet,
  lockHosts,
  type SetChange,
  type SetRow,
  updatePlacedSet,
} from "../../db/queries/sets/write-sets.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { readChangedSet } from "./get-set.ts";

export type SetAction = "stop" | "start" | "restart";

const changeByAction: Record<SetAction, SetChange> = {
  stop: { desired: "stopped" },
  start: { desired: "running" },
  restart: { desired: "running", restart: true },
};

/**
 * Stops, starts or restarts one placed set. A repeated stop or start changes nothing. Throws
 * not-found, state-conflict.
 */
export async function controlSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
  action: SetAction,
): Promise<BerthSet> {
  return unitOfWork(ctx, async (tx) => {
    const set = await findPlacedSet(tx, setId, scope, action);
    if (isDone(set, action)) return readChangedSet(tx, scope, setId);
    await lockHosts(tx, [set.hostId]);
    const changed = await updatePlacedSet(tx, setId, set.hostId, changeByAction[action]);
    if (!changed)
      throw new AppError("state-conflict", { detail: "The set changed meanwhile; read it again." });
    tx.emit(toEvent(set, action, changed.generation));
    tx.signal(`host:${set.hostId}`, `set:${setId}`, `service:${set.serviceId}`);
    return readChangedSet(tx, scope, setId);
  });
}

/** Finds a live set that is on a host. Throws not-found, state-conflict. */
export async function findPlacedSet(
  tx: Queryable,
  setId: string,
  scope: string | null,
  action: SetAction | "move",
): Promise<SetRow & { hostId: string }> {
  const set = await findSet(tx, setId, scope);
  if (!set) throw notFound("set");
  const { hostId } = set;
  if (set.desired === "deleted")
    throw new AppError("state-conflict", { detail: "The set is being deleted." });
  if (hostId !== null) return { ...set, hostId };
  throw new AppError("state-conflict", {
    detail: `The set is not placed yet, so there is nothing to ${action}. See \`berth explain ${setId}\`.`,
  });
}

function isDone(set: SetRow, action: SetAction): boolean {
  return (
    (action === "stop" && set.desired === "stopped") ||
    (action === "start" && set.desired === "running")
  );
}

function toEvent(set: SetRow, action: SetAction, generation: number): EmittedEvent {
  const { tenantId, serviceId, id: setId, hostId } = set;
  const subjects = { tenantId, serviceId, setId, hostId, generation };
  if (action === "stop") return { kind: "set-stopping", data: { cause: "request" }, ...subjects };
  const cause = action === "start" ? "request" : "restart";
  return { kind: "set-starting", data: { cause }, ...subjects };
}
