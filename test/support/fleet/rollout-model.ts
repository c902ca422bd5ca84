import type {
  RolloutSelection,
  RolloutStrategy,
  UpdateDirection,
  UpdateMethod,
} from "../../../src/contracts/api/rollouts.ts";
import { chooseNewRevisions } from "../../../src/scheduler/rollout/choose-new-revisions.ts";
import {
  countWantedSets,
  selectsByNumber,
} from "../../../src/scheduler/rollout/count-wanted-sets.ts";
import { mayDisrupt, type ReplicaCounts } from "../../../src/scheduler/rollout/may-disrupt.ts";
import { planRollout } from "../../../src/scheduler/rollout/plan-rollout.ts";
import type {
  Candidate,
  HostImages,
  OpenRecord,
  Position,
  RolloutInput,
} from "../../../src/scheduler/rollout/rollout-input.ts";
import type { RolloutAction, RolloutPlan } from "../../../src/scheduler/rollout/rollout-plan.ts";
import { type ModelHost, type ModelSet, ServiceModel } from "./service-model.ts";

interface ModelRecord {
  set: ModelSet;
  /** The set that gets the revision. */
  updated: ModelSet;
  direction: UpdateDirection;
  method: UpdateMethod;
  beganAtMs: number | undefined;
  confirmedAtMs: number | undefined;
  restartsBefore: number;
}

export interface ModelRollout {
  from: number;
  to: number;
  state: RolloutPlan["next"]["state"];
  strategy: RolloutStrategy;
  isPausedByFailure: boolean;
  step: number;
  selection: RolloutSelection;
  returnsExcess: boolean;
  stepBeganAtMs: number;
  gateSinceMs: number | undefined;
  records: Map<string, ModelRecord>;
}

/**
 * The planner in a loop with a model of one service. Its mover starts operations by the real
 * `mayDisrupt`. After each round it checks the budget, and at the end that the sets are right.
 */
export class RolloutModel extends ServiceModel {
  rollout: ModelRollout | undefined;
  /** Descriptions of broken rules. */
  readonly violations: string[] = [];
  /** Each plan, newest last. */
  readonly plans: RolloutPlan[] = [];

  start(
    from: number,
    to: number,
    strategy: RolloutStrategy,
    { supersedes = false }: { supersedes?: boolean } = {},
  ): void {
    if (supersedes) {
      for (const set of this.sets)
        if (set.operation?.phase === "waiting") set.operation = undefined;
    }
    this.rollout = {
      from,
      to,
      state: "running",
      strategy,
      isPausedByFailure: false,
      step: 0,
      selection: strategy.steps[0]?.select ?? { percent: 100 },
      returnsExcess: false,
      stepBeganAtMs: this.nowMs,
      gateSinceMs: undefined,
      records: new Map(),
    };
  }

  scale(desired: number): void {
    this.desired = desired;
    const { rollout } = this;
    const missing = desired - this.replicas.length;
    if (missing > 0) for (const revision of this.chooseRevisions(missing)) this.addSet(revision);
    // Like the scale-in, which removes sets that do not serve first.
    const sorted = this.replicas.toSorted(
      (a, b) => Number(this.isAvailable(a)) - Number(this.isAvailable(b)),
    );
    for (const set of sorted.slice(0, Math.max(0, -missing))) this.#remove(set, rollout);
  }

  resume(): void {
    if (this.rollout?.state !== "paused") return;
    Object.assign(this.rollout, {
      state: "running",
      stepBeganAtMs: this.nowMs,
      isPausedByFailure: false,
    });
  }

  rollBack(): void {
    const { rollout } = this;
    if (rollout && (rollout.state === "running" || rollout.state === "paused"))
      Object.assign(rollout, { state: "rolling-back", stepBeganAtMs: this.nowMs });
  }

  /** A user's promotion to a selection that returns the sets beyond it. */
  promoteTo(selection: RolloutSelection): void {
    const { rollout } = this;
    if (!rollout || rollout.state !== "running") return;
    const step = rollout.strategy.steps.length - 1;
    Object.assign(rollout, { step, selection, returnsExcess: true, stepBeganAtMs: this.nowMs });
  }

  /** One round of the mover: it ends operations, plans the rollout, and begins operations. */
  round(): RolloutPlan | undefined {
    this.#endOperations();
    const before = this.count();
    const plan = this.rollout && isActive(this.rollout) ? planRollout(this.read()) : undefined;
    if (plan) this.#apply(plan);
    this.#beginOperations();
    this.#check(before);
    return plan;
  }

  /** Rounds, one each second, until the rollout ends or pauses. Returns false after `roundsMax`. */
  runUntilStill(roundsMax: number): boolean {
    for (let count = 0; count < roundsMax; count++) {
      this.advance(1_000);
      this.round();
      const state = this.rollout?.state;
      if (state !== "running" && state !== "rolling-back") return true;
    }
    return false;
  }

  read(): RolloutInput {
    const rollout = this.#activeRollout();
    const { replicas } = this;
    const running = replicas.filter(({ isStopped }) => !isStopped);
    const at = (position: Position) =>
      running.filter((set) => this.#positionOf(set.revision) === position);
    const isSelected = (set: ModelSet) => this.#isSelected(set);
    return {
      nowMs: this.nowMs,
      rollout: { ...rollout, kind: "update", state: this.#plannedState(), measurement: undefined },
      budget: this.options.budget,
      counts: this.count(),
      totals: {
        desired: Math.max(0, this.desired - (replicas.length - running.length)),
        selected: running.filter(isSelected).length,
        atTarget: at("to").length,
        availableAtTarget: at("to").filter((set) => this.isAvailable(set)).length,
        selectedAvailableAtTarget: at("to").filter(
          (set) => isSelected(set) && this.isAvailable(set),
        ).length,
        atOther: at("other").length,
      },
      candidates: this.#listCandidates(),
      open: [...rollout.records.values()].map((record) => this.#toOpenRecord(record)),
      unhealthy: at("to")
        .filter((set) => !this.isAvailable(set) || !set.isReady)
        .filter(({ id }) => !rollout.records.has(id))
        .filter(({ operation }) => operation === undefined || operation.phase === "waiting")
        .map((set) => ({
          setId: set.id,
          readySinceMs: set.isReady ? set.readySinceMs : undefined,
          wasReady: set.wasReady,
          unreadySinceMs: set.unreadySinceMs,
          placedAtMs: set.placedAtMs,
          hostReadySinceMs: set.host.isReady ? set.host.readySinceMs : undefined,
        }))
        .slice(0, 200),
    };
  }

  #listCandidates(): Candidate[] {
    const rollout = this.#activeRollout();
    const byNumber = selectsByNumber(rollout.selection);
    return this.replicas
      .filter(({ id }) => !rollout.records.has(id))
      .map((set): Candidate => {
        const at = this.#positionOf(set.revision);
        const direction: UpdateDirection =
          rollout.state === "rolling-back" || at === "to" ? "from" : "to";
        return {
          setId: set.id,
          at,
          isSelected: byNumber || this.#isSelected(set),
          isAvailable: this.isAvailable(set),
          isStopped: set.isStopped,
          host: {
            id: set.host.id,
            state: set.host.isReady ? "ready" : "lost",
            isDraining: false,
          },
          hasVolume: this.options.hasVolume,
          hasStaticAddress: false,
          diff: this.options.diff,
          images: this.#imagesOf(set.host, direction === "to" ? rollout.to : rollout.from),
          operation: this.#toOperation(set),
        };
      })
      .filter(({ at, operation }) => {
        if (operation) return true;
        if (rollout.state === "rolling-back") return at !== "from";
        return at !== "to" || rollout.returnsExcess;
      })
      .toSorted((a, b) => Number(a.isAvailable) - Number(b.isAvailable))
      .slice(0, 200);
  }

  #toOperation({ operation }: ModelSet): Candidate["operation"] {
    if (!operation) return undefined;
    const { phase, toRevision } = operation;
    return { phase, owner: "rollout", leadsTo: this.#positionOf(toRevision) };
  }

  #toOpenRecord(record: ModelRecord): OpenRecord {
    const { set, updated, direction, method, beganAtMs, confirmedAtMs } = record;
    // In place, the first report with the new containers confirms the update.
    const isConfirmed = updated !== set || confirmedAtMs !== undefined;
    return {
      setId: set.id,
      method,
      direction,
      isSelected: this.#isSelected(set),
      at: this.#positionOf(this.#successor(record).revision),
      isAvailable: this.isAvailable(this.#successor(record)),
      diff: this.options.diff,
      images: { state: "pulled" },
      hostId: set.host.id,
      operation: this.#toOperation(set),
      isHeld: false,
      isStopped: set.isStopped,
      beganAtMs,
      updated: {
        isDeleted: !this.sets.includes(updated),
        state: updated.gaveUp ? "failed" : "running",
        hostReadySinceMs: updated.host.isReady ? updated.host.readySinceMs : undefined,
        isReady: updated.isReady,
        readySinceMs: isConfirmed ? updated.readySinceMs : undefined,
        wasReady: isConfirmed && updated.wasReady,
        unreadySinceMs: updated.unreadySinceMs,
        restarts: updated.restarts - record.restartsBefore,
      },
    };
  }

  /** The replica of a record: the replacement, once it has taken the place of the set. */
  #successor({ set, updated }: ModelRecord): ModelSet {
    return this.sets.includes(set) ? set : updated;
  }

  #apply(plan: RolloutPlan): void {
    this.plans.push(plan);
    const rollout = this.#activeRollout();
    for (const action of plan.actions) this.#applyAction(action);
    for (const { hostId, direction } of plan.prefetch) {
      const host = this.hosts.find(({ id }) => id === hostId);
      host?.pulls.set(direction === "to" ? rollout.to : rollout.from, this.nowMs);
    }
    const { state, step, selection, returnsExcess, stepBeganAtMs, gateSinceMs } = plan.next;
    if (plan.next.failure) rollout.isPausedByFailure = true;
    Object.assign(rollout, { state, step, selection, returnsExcess, stepBeganAtMs, gateSinceMs });
    if (state === "completed") this.#checkCompleted(rollout);
  }

  #applyAction(action: RolloutAction): void {
    const rollout = this.#activeRollout();
    const { setId } = action;
    const set = this.sets.find(({ id }) => id === setId);
    const revision = (direction: UpdateDirection) =>
      direction === "to" ? rollout.to : rollout.from;
    switch (action.kind) {
      case "end":
        rollout.records.delete(setId);
        return;
      case "cancel":
      case "drop":
        rollout.records.delete(setId);
        if (set) this.#endOperation(set);
        return;
      case "switch":
        throw new Error("the model holds no operation");
      case "assign":
        if (set) set.revision = revision(action.direction);
        return;
      case "begin":
        if (!set) return;
        set.operation = {
          phase: "waiting",
          toRevision: revision(action.direction),
          method: action.method,
          replacement: undefined,
        };
        this.#addRecord(set, action.direction);
        return;
      case "adopt":
        if (set) this.#addRecord(set, action.direction);
        return;
      case "turn":
        if (!set?.operation) return;
        set.operation.toRevision = revision(action.direction);
        this.#update(set);
        this.#addRecord(set, action.direction);
        return;
    }
  }

  #addRecord(set: ModelSet, direction: UpdateDirection): void {
    const { operation } = set;
    if (!operation) return;
    const updated = operation.replacement ?? set;
    this.#activeRollout().records.set(set.id, {
      set,
      updated,
      direction,
      method: operation.method,
      beganAtMs: operation.phase === "waiting" ? undefined : this.nowMs,
      confirmedAtMs: undefined,
      restartsBefore: updated.restarts,
    });
  }

  /** The real budget decides, as in the mover. */
  #beginOperations(): void {
    for (const set of this.replicas) {
      const { operation } = set;
      if (operation?.phase !== "waiting" || !set.host.isReady) continue;
      const isAvailable = this.isAvailable(set);
      const isFirst = operation.method === "start-first" && isAvailable;
      const serves = operation.method === "in-place" && this.options.diff.servesDuringUpdate;
      const mode = isFirst ? "replace-first" : "stop-first";
      if (!serves && !mayDisrupt(this.options.budget, this.count(), { isAvailable, mode }).ok)
        continue;
      const record = this.rollout?.records.get(set.id);
      if (isFirst) {
        operation.phase = "replacing";
        operation.replacement = this.addSet(operation.toRevision, set);
      } else {
        operation.phase = "updating";
        this.#update(set);
      }
      if (!record) continue;
      record.updated = operation.replacement ?? set;
      record.beganAtMs = this.nowMs;
      record.restartsBefore = record.updated.restarts;
    }
  }

  #update(set: ModelSet): void {
    const { operation } = set;
    if (!operation) return;
    set.revision = operation.toRevision;
    set.startedAtMs = this.nowMs;
    set.gaveUp = false;
    const serves = this.options.diff.servesDuringUpdate;
    this.becomeUnready(set, serves ? (set.servesSinceMs ?? set.readySinceMs) : undefined);
  }

  #endOperations(): void {
    for (const set of this.replicas) {
      const { operation } = set;
      if (operation?.phase === "updating" && set.isReady && set.startedAtMs < this.nowMs) {
        set.operation = undefined;
        this.#confirm(set);
      }
      const replacement = operation?.replacement;
      if (operation?.phase !== "replacing" || !replacement) continue;
      if (!this.sets.includes(replacement)) {
        Object.assign(operation, { phase: "waiting", replacement: undefined });
        const record = this.rollout?.records.get(set.id);
        if (record) Object.assign(record, { updated: set, beganAtMs: undefined });
      } else if (this.isAvailable(replacement)) {
        replacement.replaces = undefined;
        this.sets = this.sets.filter((other) => other !== set);
        this.#confirm(set);
      }
    }
  }

  #confirm(set: ModelSet): void {
    const record = this.rollout?.records.get(set.id);
    if (record) record.confirmedAtMs = this.nowMs;
    if (record && !this.sets.includes(set)) set.operation = undefined;
  }

  #endOperation(set: ModelSet): void {
    const replacement = set.operation?.replacement;
    set.operation = undefined;
    if (replacement) this.sets = this.sets.filter((other) => other !== replacement);
  }

  #remove(set: ModelSet, rollout: ModelRollout | undefined): void {
    const replacement = set.operation?.replacement;
    this.sets = this.sets.filter((other) => other !== set && other !== replacement);
    const record = rollout?.records.get(set.id);
    if (record) record.updated = set;
  }

  protected override chooseRevisions(count: number): number[] {
    const { rollout } = this;
    if (!rollout || !isActive(rollout)) return Array<number>(count).fill(rollout?.to ?? 1);
    const { atTarget, ...totals } = this.read().totals;
    const toTarget = [...rollout.records.values()].filter(
      (record) => record.direction === "to" && this.#successor(record).revision !== rollout.to,
    );
    return chooseNewRevisions(count, {
      state: this.#plannedState(),
      isPausedByFailure: rollout.isPausedByFailure,
      fromRevision: rollout.from,
      toRevision: rollout.to,
      wantedAtTarget: selectsByNumber(rollout.selection)
        ? countWantedSets(rollout.selection, totals)
        : 0,
      atTarget: atTarget + toTarget.length,
    }).flatMap((chosen) => Array<number>(chosen.count).fill(chosen.revision));
  }

  /** Checks that the changes of one round did not exceed the budget (I14). */
  #check(before: ReplicaCounts): void {
    const after = this.count();
    const { budget } = this.options;
    const limit = (value: number | string, round: (value: number) => number) =>
      typeof value === "number" ? value : round((after.desired * Number(value.slice(0, -1))) / 100);
    const unavailableMax =
      budget.maxUnavailable === "0%"
        ? 0
        : limit(budget.maxUnavailable, (n) => Math.max(1, Math.floor(n)));
    const expected = Math.max(0, Math.min(before.desired, before.live - before.notExpected));
    if (after.available < Math.min(before.available, expected - unavailableMax))
      this.violations.push(`${before.available} -> ${after.available} of ${expected} available`);
    const surgeMax = Math.max(before.surging, limit(budget.maxSurge, Math.ceil));
    if (after.surging > surgeMax) this.violations.push(`${after.surging} sets surge`);
  }

  #checkCompleted(rollout: ModelRollout): void {
    const right = this.replicas.filter(
      (set) => set.revision === rollout.to && (set.isStopped || this.isAvailable(set)),
    );
    if (right.length !== this.replicas.length || right.length < this.desired)
      this.violations.push(`completed with ${right.length} of ${this.desired} sets`);
  }

  #activeRollout(): ModelRollout {
    if (!this.rollout) throw new Error("no rollout was started");
    return this.rollout;
  }

  #plannedState(): RolloutInput["rollout"]["state"] {
    const { state } = this.#activeRollout();
    if (state === "running" || state === "paused" || state === "rolling-back") return state;
    throw new Error(`a rollout in state ${state} is not planned`);
  }

  #positionOf(revision: number): Position {
    const { from, to } = this.#activeRollout();
    if (revision === to) return "to";
    return revision === from ? "from" : "other";
  }

  #isSelected(set: ModelSet): boolean {
    const { selection } = this.#activeRollout();
    return "zones" in selection && selection.zones.includes(set.host.zone);
  }

  #imagesOf(host: ModelHost, revision: number): HostImages {
    const atMs = host.pulls.get(revision);
    if (atMs === undefined) return { state: "missing" };
    const { pullMs } = this.options;
    if (pullMs === Infinity) return { state: "failed" };
    return this.nowMs - atMs >= pullMs ? { state: "pulled" } : { state: "requested", atMs };
  }
}

function isActive({ state }: ModelRollout): boolean {
  return state === "running" || state === "paused" || state === "rolling-back";
}
