import { renderReasonText } from "../../contracts/api/reason-texts.ts";
import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { getSizedTemplate, lockServiceById } from "../../db/queries/services/write-services.ts";
import {
  findSet,
  lockHosts,
  markSetsDeleted,
  type SetChange,
  type SetRow,
  updatePlacedSet,
} from "../../db/queries/sets/write-sets.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { countReplaceable } from "../tenancy/quota.ts";
import { getSet, readChangedSet } from "./get-set.ts";
import { reconcileServiceSets } from "../replicas/reconcile-replicas.ts";

export type SetVerb = "stop" | "start" | "restart";

const changeOfVerb: Record<SetVerb, SetChange> = {
  stop: { desired: "stopped" },
  start: { desired: "running" },
  restart: { desired: "running", restart: true },
};

/**
 * Stops, starts or restarts one placed set. Repeating stop or start changes nothing more. Throws
 * not-found, state-conflict.
 */
export async function changeSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
  verb: SetVerb,
): Promise<BerthSet> {
  return unitOfWork(ctx, async (tx) => {
    const set = await findPlacedSet(tx, setId, scope, verb);
    if (isDone(set, verb)) return readChangedSet(tx, scope, setId);
    await lockHosts(tx, [set.hostId]);
    const changed = await updatePlacedSet(tx, setId, set.hostId, changeOfVerb[verb]);
    if (!changed)
      throw new AppError("state-conflict", { detail: "The set changed meanwhile; read it again." });
    tx.emit(toEvent(set, verb, changed.generation));
    tx.signal(`host:${set.hostId}`, `set:${setId}`, `service:${set.serviceId}`);
    return readChangedSet(tx, scope, setId);
  });
}

/** A set that is on a host and is to stay. Throws not-found, state-conflict. */
export async function findPlacedSet(
  tx: Queryable,
  setId: string,
  scope: string | null,
  verb: SetVerb | "move",
): Promise<SetRow & { hostId: string }> {
  const set = await findSet(tx, setId, scope);
  if (!set) throw notFound("set");
  const { hostId } = set;
  if (set.desired === "deleted")
    throw new AppError("state-conflict", { detail: "The set is being deleted." });
  if (hostId !== null) return { ...set, hostId };
  throw new AppError("state-conflict", {
    detail: `The set is not placed yet, so there is nothing to ${verb}. See \`berth explain ${setId}\`.`,
  });
}

function isDone(set: SetRow, verb: SetVerb): boolean {
  return (
    (verb === "stop" && set.desired === "stopped") ||
    (verb === "start" && set.desired === "running")
  );
}

function toEvent(set: SetRow, verb: SetVerb, generation: number): EmittedEvent {
  const { tenantId, serviceId, id: setId, hostId } = set;
  const subjects = { tenantId, serviceId, setId, hostId, generation };
  if (verb === "stop") return { kind: "set-stopping", data: { cause: "request" }, ...subjects };
  const cause = verb === "start" ? "request" : "restart";
  return { kind: "set-starting", data: { cause }, ...subjects };
}

/**
 * Removes one set. Its service keeps its number of replicas, so that another takes its place.
 * Throws not-found.
 */
export async function deleteSet(
  ctx: ControlContext,
  scope: string | null,
  setId: string,
): Promise<BerthSet> {
  // Read it first: the transaction deletes a pending set at once.
  const before = await getSet(ctx, scope, setId);
  await unitOfWork(ctx, async (tx) => {
    const set = await findSet(tx, setId, scope);
    if (!set) throw notFound("set");
    if (set.desired !== "deleted") await removeSet(tx, set);
  });
  return { ...before, desired: "deleted" };
}

/** Marks the set deleted and fills the gap, under the lock of its service. */
async function removeSet(tx: UnitOfWork, set: SetRow): Promise<void> {
  const service = await lockServiceById(tx, set.serviceId);
  // Near the quota this locks the tenant, which comes before the hosts.
  if (service) await countReplaceable(tx, service.tenantId, await getSizedTemplate(tx, service), 1);
  const hostIds = set.hostId === null ? [] : [set.hostId];
  await lockHosts(tx, hostIds);
  const marked = await markSetsDeleted(tx, [set.id], hostIds);
  if (marked.length === 0)
    throw new AppError("state-conflict", { detail: "The set changed meanwhile; try again." });
  tx.emit({
    kind: "set-stopping",
    data: { cause: "deletion" },
    tenantId: set.tenantId,
    serviceId: set.serviceId,
    setId: set.id,
    hostId: set.hostId,
  });
  tx.signal(...hostIds.map((id) => `host:${id}` as const));
  tx.signal(`set:${set.id}`, `service:${set.serviceId}`);
  const outcome = service ? await reconcileServiceSets(tx, service) : undefined;
  if (!outcome?.held) return;
  const warning = renderReasonText("replacement-over-quota", {});
  const { tenantId, serviceId, id: setId } = set;
  tx.emit({ kind: "set-warning", data: { warning }, tenantId, serviceId, setId });
}
