import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { RolloutChange } from "../../contracts/api/rollout-answers.ts";
import type { CreateRollout } from "../../contracts/api/rollout-requests.ts";
import { type RequestedChange, resolveStrategy } from "../../contracts/api/rollouts.ts";
import {
  type ActiveRollout,
  findActiveRollout,
  findQueuedRollout,
  insertRollout,
} from "../../db/queries/rollouts/rollouts.ts";
import {
  lockServiceByName,
  type ServiceRow,
  updateService,
} from "../../db/queries/services/write-services.ts";
import { newId } from "../../lib/ids.ts";
import { assertNetworksExist } from "../networks/assert-networks-exist.ts";
import { ensureStaticDefaultNetwork } from "../networks/default-network.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { assertGeneration, assertNotDeleting } from "../runtime/preconditions.ts";
import { assertSupported } from "../runtime/supported-features.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { assertSingleReplica } from "../replicas/assert-single-replica.ts";
import { readChangedRollout } from "./get-rollout.ts";
import { prepareRollout } from "./prepare-rollout.ts";
import { setTarget, startRollout } from "./start-rollout.ts";

/**
 * Starts a rollout of a service, or queues it behind the active one. Its sets get the target
 * revision within the disruption budget (I14, I21).
 *
 * A partial change that supersedes a rollout applies to the target of that one. If that target may
 * be broken, the change applies to the revision before, so a repair never includes what it repairs.
 *
 * Throws not-found, generation-mismatch, state-conflict, unsupported, invalid-request,
 * quota-exceeded.
 */
export async function createRollout(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  {
    body,
    caller,
    generation,
  }: { body: CreateRollout; caller: Caller; generation: number | undefined },
): Promise<RolloutChange> {
  const { template } = body;
  assertSupported(ctx.settings, { template });
  await ensureStaticDefaultNetwork(ctx, tenantId, template);
  return unitOfWork(ctx, async (tx) => {
    const service = await lockServiceByName(tx, tenantId, name);
    if (!service) throw notFound("service");
    assertGeneration(service, generation);
    assertNotDeleting(service);
    if (template) await assertNetworksExist(tx, tenantId, template);
    const active = await findActiveRollout(tx, service.id);
    if (active && body.ifActive === "reject") throw isActive(active);
    const strategy = resolveStrategy(body.strategy ?? service.rollout, {
      replicas: service.desiredReplicas,
      minReadySeconds: service.disruption.minReadySeconds,
    });
    const request = { change: toChange(body), strategy, message: body.message ?? null };
    if (active && body.ifActive === "wait")
      return queueRollout(tx, service, active, { ...request, caller });
    const changed: ServiceRow = { ...service };
    const base = chooseBase(service, active);
    if (!(await setTarget(tx, service, changed, request.change, base))) throw notFound("revision");
    await assertSingleReplica(tx, changed);
    const isRestart = body.restart === true;
    const toRevision = isRestart ? service.revision : changed.targetRevision;
    const effects = await prepareRollout(ctx, tx, service, changed, { strategy, isRestart });
    if (!isRestart) changed.generation = await updateService(tx, changed);
    const { tokenId } = caller;
    const start = { ...request, tokenId, toRevision, superseded: active };
    const number = await startRollout(tx, changed, start);
    const superseded = active ? [`Rollout ${active.number} ends.`] : [];
    if (active && "containers" in request.change)
      superseded.push(`The change applies to revision ${base}.`);
    const rollout = await readChangedRollout(tx, tenantId, name, number);
    return { rollout, effects: [...superseded, ...effects] };
  });
}

function toChange({ containers, template, toRevision }: CreateRollout): RequestedChange {
  if (containers) return { containers };
  if (template) return { template };
  return toRevision === undefined ? { restart: true } : { toRevision };
}

/** The revision to whose template a partial change applies. */
function chooseBase(service: ServiceRow, active: ActiveRollout | undefined): number {
  if (!active) return service.revision;
  const isPausedByFailure = active.state === "paused" && active.changedBy === null;
  const isBroken = isPausedByFailure || active.state === "rolling-back";
  return isBroken ? active.fromRevision : active.toRevision;
}

async function queueRollout(
  tx: UnitOfWork,
  service: ServiceRow,
  active: ActiveRollout,
  {
    caller,
    ...request
  }: Pick<Parameters<typeof insertRollout>[1], "change" | "strategy" | "message"> & {
    caller: Caller;
  },
): Promise<RolloutChange> {
  const queued = await findQueuedRollout(tx, service.id);
  if (queued) {
    throw new AppError("state-conflict", {
      detail: `Rollout ${queued.number} already waits for the end of rollout ${active.number}.`,
    });
  }
  const { number } = await insertRollout(tx, {
    ...request,
    id: newId("rlt"),
    tenantId: service.tenantId,
    serviceId: service.id,
    kind: "restart" in request.change ? "restart" : "update",
    tokenId: caller.tokenId,
    revisions: null,
  });
  tx.signal(`service:${service.id}`);
  const rollout = await readChangedRollout(tx, service.tenantId, service.name, number);
  return { rollout, effects: [`It starts when rollout ${active.number} ends.`] };
}

function isActive({ number, state }: ActiveRollout): AppError {
  return new AppError("state-conflict", {
    detail: `Rollout ${number} of the service is ${state}. Wait for its end, or retry the request with "ifActive": "wait" or "supersede".`,
  });
}
