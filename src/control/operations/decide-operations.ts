import type { DisruptionBudget } from "../../contracts/api/disruption-budget.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { createReason } from "../../contracts/api/reason-texts.ts";
import { type SetTemplate, templateWithSize } from "../../contracts/api/set-template.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  readReplicaCounts,
  type WaitingOperation,
} from "../../db/queries/operations/read-operations.ts";
import { listAllHostPools, lockFleetHosts } from "../../db/queries/placement/fleet.ts";
import { findTemplate, type ServiceRow } from "../../db/queries/services/write-services.ts";
import { assert } from "../../lib/assert.ts";
import { compareTemplates } from "../../scheduler/rollout/compare-templates.ts";
import { mayLeaveVolume } from "../../scheduler/rollout/may-leave-volume.ts";
import {
  countDisruption,
  type DisruptedSet,
  type DisruptionVerdict,
  mayDisrupt,
  permitsSurge,
  type ReplicaCounts,
} from "../../scheduler/rollout/may-disrupt.ts";
import type { FleetCache } from "../placement/fleet-cache.ts";
import { toHostSnapshot, toPlanPolicy } from "../placement/host-snapshot.ts";
import { planMoves } from "../placement/plan-moves.ts";
import { reserveIfFits, computeGrowth } from "../placement/growth.ts";

/** The next step of a waiting operation. */
export type OperationDecision = { operation: WaitingOperation; template: SetTemplate } & (
  | { step: "resize" | "replace-first"; reason?: undefined }
  /** The agent replaces these containers of the set on its host. */
  | {
      step: "update-in-place";
      containers: readonly string[];
      interrupts: boolean;
      reason?: undefined;
    }
  /** `targetId` is the planned host. Undefined for a forced drain if no host has capacity. */
  | { step: "stop-first"; targetId: string | undefined; reason?: undefined }
  | { step: "wait"; reason: Reason }
);

/**
 * Decides the next step of the due operations of a service. The caller has locked the service. It
 * has locked the hosts of the operations with `changesHost`, and read the operations after that.
 * Budgets and capacity count what this call has decided before.
 */
export async function decideOperations(
  tx: Queryable,
  service: ServiceRow,
  due: readonly WaitingOperation[],
  cache: FleetCache,
): Promise<OperationDecision[]> {
  const templates = await readTemplates(tx, service, due);
  const fitting = await findFittingResizes(tx, due);
  let counts: ReplicaCounts = await readReplicaCounts(tx, service.id, {
    desired: service.desiredReplicas,
    minReadySeconds: service.disruption.minReadySeconds,
  });
  const decisions: OperationDecision[] = [];
  const movable: MovableOperation[] = [];
  for (const operation of due) {
    const revision = templates.get(operation.toRevision);
    assert(revision, "the revision of an operation exists");
    const template = templateWithSize(revision, operation.to);
    const about = { operation, template };
    const update = toUpdate(
      operation,
      service.disruption,
      templates.get(operation.revision),
      template,
    );
    if (update) {
      const set = { ...toDisrupted(operation), mode: "stop-first" as const };
      const isFree = update.step === "update-in-place" && !update.interrupts;
      const verdict = isFree
        ? ({ ok: true } as const)
        : mayDisrupt(service.disruption, counts, set);
      if (verdict.ok && !isFree) counts = countDisruption(counts, set);
      decisions.push(
        verdict.ok ? update : { ...about, step: "wait", reason: budgetReason(operation, verdict) },
      );
      continue;
    }
    if (fitting.has(operation.setId)) {
      decisions.push({ ...about, step: "resize" });
      continue;
    }
    const reason = whyNotMovable(operation);
    if (reason) {
      decisions.push({ ...about, step: "wait", reason });
      continue;
    }
    movable.push({ ...about, step: chooseStep(operation, service.disruption) });
  }
  const moves = await decideMoves(tx, service, movable, counts, cache);
  return [...decisions, ...moves];
}

/** One pass for each limit of the budget, and one with the remaining moves. */
const PASSES_MAX = 3;

/**
 * Chooses the moves that both the budget and the capacity of other hosts permit. A set that fits on
 * no host uses no budget, and a set that the budget denies uses no capacity. So after a denial,
 * Berth plans the rejected sets again without the denied ones.
 */
async function decideMoves(
  tx: Queryable,
  service: ServiceRow,
  movable: readonly MovableOperation[],
  counts: ReplicaCounts,
  cache: FleetCache,
): Promise<OperationDecision[]> {
  const budget = service.disruption;
  const first = splitByBudget(budget, movable, counts, { isSum: false });
  let waiting = first.denied;
  let candidates = first.permitted;
  for (let pass = 1; ; pass++) {
    const { hostIds, rejections } = await planMoves(
      tx,
      service,
      candidates.map(({ operation: { setId, hostId, kind, isHostDraining }, template, step }) => ({
        setId,
        hostId,
        template,
        isSameSet: step === "stop-first",
        mayStay: kind === "update" && !isHostDraining,
      })),
      cache,
    );
    const rejected = candidates.filter(
      ({ operation }) => !operation.isForced && rejections.has(operation.setId),
    );
    const fitting = candidates.filter((move) => !rejected.includes(move));
    const started = splitByBudget(budget, fitting, counts, { isSum: true });
    const others = splitByBudget(budget, rejected, started.counts, { isSum: false });
    const isLast = started.denied.length === 0 || pass === PASSES_MAX;
    const plannedAgain = isLast ? [] : others.permitted;
    const held = rejected
      .filter((move) => !plannedAgain.includes(move))
      .map((move) => toWaitingMove(move, rejections));
    waiting = [...waiting, ...started.denied, ...held];
    if (plannedAgain.length === 0)
      return [...started.permitted.map((move) => toStartedMove(move, hostIds)), ...waiting];
    candidates = [...started.permitted, ...plannedAgain];
  }
}

/** Splits moves by whether the budget permits them: each one alone, or all of them together. */
function splitByBudget(
  budget: DisruptionBudget,
  moves: readonly MovableOperation[],
  before: ReplicaCounts,
  { isSum }: { isSum: boolean },
): { permitted: MovableOperation[]; denied: OperationDecision[]; counts: ReplicaCounts } {
  let counts = before;
  const permitted: MovableOperation[] = [];
  const denied: OperationDecision[] = [];
  for (const move of moves) {
    const { operation, template, step } = move;
    const set = { ...toDisrupted(operation), mode: step };
    const verdict = mayDisrupt(budget, counts, set);
    if (verdict.ok || operation.isForced) {
      permitted.push(move);
      if (isSum) counts = countDisruption(counts, set);
    } else {
      denied.push({ operation, template, step: "wait", reason: budgetReason(operation, verdict) });
    }
  }
  return { permitted, denied, counts };
}

function toWaitingMove(
  { operation, template }: MovableOperation,
  rejections: ReadonlyMap<string, string>,
): OperationDecision {
  const reason = capacityReason(operation, rejections.get(operation.setId) ?? "");
  return { operation, template, step: "wait", reason };
}

function toStartedMove(
  { operation, template, step }: MovableOperation,
  hostIds: ReadonlyMap<string, string>,
): OperationDecision {
  if (step === "replace-first") return { operation, template, step };
  return { operation, template, step, targetId: hostIds.get(operation.setId) };
}

/** An operation that may start if a host takes its set and the budget permits it. */
interface MovableOperation {
  operation: WaitingOperation;
  template: SetTemplate;
  step: "replace-first" | "stop-first";
}

async function readTemplates(
  tx: Queryable,
  service: ServiceRow,
  due: readonly WaitingOperation[],
): Promise<Map<number, SetTemplate>> {
  const templates = new Map<number, SetTemplate>();
  const revisions = due.flatMap((operation) =>
    operation.kind === "update" ? [operation.revision, operation.toRevision] : operation.toRevision,
  );
  for (const revision of new Set(revisions)) {
    const template = await findTemplate(tx, service.id, revision);
    if (template) templates.set(revision, template);
  }
  return templates;
}

/** The set as the disruption budget sees it. */
function toDisrupted({ desired, isReady, isAvailable }: WaitingOperation): DisruptedSet {
  const serves = isReady && desired === "running";
  return { isAvailable: serves, isYoung: serves && !isAvailable };
}

/** Whether the next step of the operation may change the row of its host, which needs a lock. */
export function changesHost(operation: WaitingOperation, budget: DisruptionBudget): boolean {
  return (
    isResizeInPlace(operation) ||
    isUpdateInPlace(operation) ||
    chooseStep(operation, budget) === "stop-first"
  );
}

/**
 * Whether an update replaces containers of the set on its host. On a draining host, a set that may
 * leave is updated by its move.
 */
function isUpdateInPlace(operation: WaitingOperation): boolean {
  const { kind, method, isHostDraining } = operation;
  if (kind !== "update" || method === null) return false;
  if (isHostDraining && whyNotMovable(operation) === undefined) return false;
  return method !== "start-first";
}

/**
 * The step of an update that needs no other host. Undefined for one that does. A set that stops
 * first frees what it needs on its host, so nothing is booked for it elsewhere.
 */
function toUpdate(
  operation: WaitingOperation,
  budget: DisruptionBudget,
  before: SetTemplate | undefined,
  template: SetTemplate,
): (OperationDecision & { step: "update-in-place" | "stop-first" }) | undefined {
  if (!isUpdateInPlace(operation)) {
    const isStop = operation.kind === "update" && chooseStep(operation, budget) === "stop-first";
    if (!isStop || operation.isHostDraining) return undefined;
    return { operation, template, step: "stop-first", targetId: undefined };
  }
  const about = { operation, template, step: "update-in-place" as const };
  if (operation.restarts || before === undefined) {
    const containers = template.containers.map(({ name }) => name);
    return { ...about, containers, interrupts: true };
  }
  const { containers, servesDuringUpdate, level } = compareTemplates(before, template);
  const restartsNone = level === "none" || level === "live";
  return { ...about, containers, interrupts: !restartsNone && !servesDuringUpdate };
}

function isResizeInPlace({ kind, isHostDraining }: WaitingOperation): boolean {
  return kind === "resize" && !isHostDraining;
}

/** Finds waiting resizes whose hosts now have the capacity, except on draining hosts. */
async function findFittingResizes(
  tx: Queryable,
  due: readonly WaitingOperation[],
): Promise<Set<string>> {
  const resizes = due.filter(isResizeInPlace);
  const hostIds = new Set(resizes.map(({ hostId }) => hostId));
  if (hostIds.size === 0) return new Set();
  const pools = await listAllHostPools(tx);
  const rows = await lockFleetHosts(tx, [...hostIds]);
  const hosts = new Map(rows.map((row) => [row.id, toHostSnapshot(row)]));
  const policy = toPlanPolicy(pools, 0);
  const fitting = resizes.filter((operation) => {
    const host = hosts.get(operation.hostId);
    return (
      host !== undefined && reserveIfFits(host, policy, computeGrowth(operation, operation.to)).ok
    );
  });
  return new Set(fitting.map(({ setId }) => setId));
}

/**
 * Chooses the step of a move. A ready set is replaced first. A set that is not ready stops first,
 * because it serves nothing, and its replacement might never be ready either. Sets with a volume,
 * stopped sets, and sets of a service without surge also stop first.
 */
function chooseStep(
  { desired, isReady, isForced, hasStaticAddress, to }: WaitingOperation,
  budget: DisruptionBudget,
): "replace-first" | "stop-first" {
  const mustStop = desired === "stopped" || to.volumeBytes > 0 || isForced || !permitsSurge(budget);
  return mustStop || hasStaticAddress || !isReady ? "stop-first" : "replace-first";
}

function whyNotMovable(operation: WaitingOperation): Reason | undefined {
  const { kind, mayMove, hostName, isHostDraining } = operation;
  if (kind === "resize" && !mayMove && !isHostDraining) {
    return createReason("resize-refused", { cause: "no-move", host: hostName }, "placement");
  }
  const cause = {
    kind: operation.owner === "drain" ? ("drain" as const) : ("move" as const),
    discardsVolumes: operation.discardsVolume,
  };
  if (mayLeaveVolume(operation.hasVolumeData, cause)) return undefined;
  return createReason("volume-bound", { host: hostName }, "placement");
}

function budgetReason(
  { kind, hostName }: WaitingOperation,
  { reason, limit, inUse }: Extract<DisruptionVerdict, { ok: false }>,
): Reason {
  if (kind === "update")
    return createReason("update-waits", { limitedBy: reason, inUse, limit }, "placement");
  return createReason(
    "move-waits",
    { host: hostName, limitedBy: reason, inUse, limit },
    "placement",
  );
}

export function capacityReason(
  { kind, hostName: host }: WaitingOperation,
  explanation: string,
): Reason {
  if (kind === "update") return createReason("update-held", { explanation }, "placement");
  return createReason("move-held", { host, explanation }, "placement");
}
