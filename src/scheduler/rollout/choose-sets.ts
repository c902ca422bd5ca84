import type { UpdateDirection, UpdateMethod } from "../../contracts/api/rollouts.ts";
import { chooseFallback, chooseMethod } from "./choose-method.ts";
import type { TemplateDiff } from "./compare-templates.ts";
import { countWantedSets, selectsAll, selectsByNumber } from "./count-wanted-sets.ts";
import type { SetFailure } from "./judge-sets.ts";
import {
  countDisruption,
  type DisruptedSet,
  type DisruptionMode,
  mayDisrupt,
  permitsSurge,
  type ReplicaCounts,
} from "./may-disrupt.ts";
import {
  type Candidate,
  OPEN_RECORDS_MAX,
  type OpenRecord,
  type RolloutInput,
  type SetOperation,
} from "./rollout-input.ts";
import type { RolloutAction, WaitsFor } from "./rollout-plan.ts";

/** The sets that a round changes. */
export interface ChosenSets {
  actions: readonly RolloutAction[];
  prefetch: readonly { hostId: string; direction: UpdateDirection }[];
  /** Sets that failed before anything of them stopped: their hosts cannot get the images. */
  failures: readonly SetFailure[];
  /** Sets of this step change or have to change, so the step is not reached. */
  isBusy: boolean;
  /** Some set gets the earlier revision. */
  returns: boolean;
  /** Why the first set that could not begin waits. Undefined if each one began. */
  waitsFor: WaitsFor | undefined;
  /** The time at which this choice changes without a report. */
  nextMs: number;
  /** Replicas that the step wants at the target. */
  wanted: number;
}

/**
 * Chooses the sets that change in this round, and how. `open` are the records without an end. Pure;
 * the caller has checked that nothing failed.
 *
 * Candidates that do not serve come first, because they need no budget. Otherwise the order of the
 * input decides.
 */
export function chooseSets(input: RolloutInput, open: readonly OpenRecord[]): ChosenSets {
  const round = new Round(input, open);
  for (const record of open) round.redirectRecord(record);
  for (const record of open) round.countWaiting(record);
  const serves = (set: Candidate) => Number(set.isAvailable);
  for (const set of input.candidates.toSorted((a, b) => serves(a) - serves(b))) round.consider(set);
  return round.finish();
}

/** The decisions of one round. Each one counts for those that follow. */
class Round {
  readonly #input: RolloutInput;
  readonly #wanted: number;
  readonly #parallelMax: number;
  readonly #actions: RolloutAction[] = [];
  readonly #prefetch = new Map<string, { hostId: string; direction: UpdateDirection }>();
  readonly #failures: SetFailure[] = [];
  /** Sets whose record ends in this round. */
  readonly #redirected = new Set<string>();
  #counts: ReplicaCounts;
  /** Replicas that are at the target, or change to it. */
  #atTarget: number;
  #inFlight: number;
  #isBusy: boolean;
  #returns = false;
  #waitsFor: WaitsFor | undefined;
  #nextMs = Infinity;

  constructor(input: RolloutInput, open: readonly OpenRecord[]) {
    const { totals, rollout } = input;
    const { parallel } = rollout.strategy;
    this.#input = input;
    this.#counts = input.counts;
    this.#wanted = countWantedSets(rollout.selection, totals);
    this.#parallelMax = Math.min(OPEN_RECORDS_MAX, countParallel(parallel, totals.desired));
    this.#atTarget = open.reduce(
      (sum, { at, direction }) => sum + toTarget(direction) - Number(at === "to"),
      totals.atTarget,
    );
    this.#inFlight = open.length;
    this.#isBusy = open.length > 0;
  }

  /** Turns or ends an update whose set should no longer get the revision. */
  redirectRecord(record: OpenRecord): void {
    const direction = this.#chooseDirection(record.direction, record.isSelected);
    if (direction === record.direction) return;
    const { setId, operation, updated } = record;
    if (operation === undefined || updated.isDeleted) {
      this.#actions.push({
        kind: "end",
        setId,
        outcome: updated.isDeleted ? "lost" : "canceled",
      });
      this.#redirected.add(setId);
      return;
    }
    const action = redirect(setId, operation, direction);
    // A restart that has begun cannot be undone: it ends with the set as it was.
    const isRestart = this.#input.rollout.kind === "restart";
    if (action === undefined || (isRestart && action.kind === "turn")) return;
    if (action.kind === "turn") {
      if (!this.#permitsTurn(record)) return;
    } else {
      this.#redirected.add(setId);
      this.#inFlight -= 1;
    }
    this.#actions.push(action);
    this.#returns ||= direction === "from";
    this.#atTarget += toTarget(direction) - toTarget(record.direction);
  }

  /** Counts a waiting operation as if it had begun, so that operations do not pile up. */
  countWaiting(record: OpenRecord): void {
    if (record.operation?.phase !== "waiting" || this.#redirected.has(record.setId)) return;
    const mode = getMode(record.method, record);
    const fallback = record.isHeld ? this.#chooseFallback(record) : undefined;
    if (fallback !== undefined && this.#hasImages(record, record.hostId, record.direction)) {
      const stop = getMode(fallback, record);
      if (stop === "none" || this.#permits(record, stop)) {
        this.#actions.push({ kind: "switch", setId: record.setId, method: fallback });
        return;
      }
    }
    if (mode !== "none") this.#counts = countDisruption(this.#counts, { ...record, mode });
  }

  /** Begins the change of a set, if its step wants it and nothing prevents it. */
  consider(set: Candidate): void {
    const { setId, operation } = set;
    if (operation !== undefined && operation.owner !== "rollout") {
      if (this.#wantsDirection(set) !== undefined) this.#wait("operations");
      return;
    }
    if (operation !== undefined) {
      this.#redirectCandidate(set, operation);
      return;
    }
    const direction = this.#wantsDirection(set);
    if (direction === undefined) return;
    if (set.isStopped || set.host === undefined) {
      this.#actions.push({ kind: "assign", setId, direction });
      if (!set.isStopped) this.#atTarget += toTarget(direction) - Number(set.at === "to");
      return;
    }
    if (set.host.state !== "ready") {
      this.#wait("hosts");
      return;
    }
    // The set is the next one, even if it has to wait. Another one would soon be in excess.
    this.#atTarget += toTarget(direction) - Number(set.at === "to");
    this.#begin(set, set.host, direction);
  }

  finish(): ChosenSets {
    const { rollout } = this.#input;
    const isShort =
      rollout.state === "running" &&
      selectsByNumber(rollout.selection) &&
      this.#atTarget < this.#wanted;
    if (isShort && this.#waitsFor === undefined) this.#waitsFor = "readiness";
    return {
      actions: this.#actions,
      prefetch: [...this.#prefetch.values()],
      failures: this.#failures,
      isBusy: this.#isBusy || this.#actions.length > 0 || isShort,
      returns: this.#returns,
      waitsFor: this.#waitsFor,
      nextMs: this.#nextMs,
      wanted: this.#wanted,
    };
  }

  /**
   * The direction of a set that has, or gets, `direction` now. If the step selects a number, sets
   * are exchangeable: one changes only while too few or too many are at the target.
   */
  #chooseDirection(direction: UpdateDirection, isSelected: boolean): UpdateDirection {
    const { rollout } = this.#input;
    if (rollout.state === "rolling-back") return "from";
    const { selection, returnsExcess } = rollout;
    if (selectsAll(selection)) return "to";
    if (!selectsByNumber(selection)) {
      if (isSelected) return "to";
      return returnsExcess ? "from" : direction;
    }
    if (direction === "from") return this.#atTarget < this.#wanted ? "to" : direction;
    return returnsExcess && this.#atTarget > this.#wanted ? "from" : direction;
  }

  /** The direction that a candidate has to get. Undefined if it keeps its revision. */
  #wantsDirection(set: Candidate): UpdateDirection | undefined {
    const { state, kind } = this.#input.rollout;
    if (set.at === "other" && state === "running" && !set.isAvailable && !set.isStopped)
      return "to";
    if (set.at === "other" && state === "rolling-back") return "from";
    if (state === "rolling-back" && kind === "restart") return undefined;
    const isByNumber = selectsByNumber(this.#input.rollout.selection);
    // The number of a step counts sets that run. The last step includes the stopped ones.
    if (set.isStopped && state === "running" && isByNumber && !this.#selectsAll()) return undefined;
    const direction = this.#chooseDirection(set.at === "to" ? "to" : "from", set.isSelected);
    return direction === set.at || (direction === "from" && set.at === "other")
      ? undefined
      : direction;
  }

  #selectsAll(): boolean {
    return selectsAll(this.#input.rollout.selection);
  }

  /** An operation of this rollout after a failure, or of a superseded one. */
  #redirectCandidate(set: Candidate, operation: SetOperation): void {
    if (set.isStopped) {
      const isReplaced = operation.phase === "replacing";
      this.#actions.push({ kind: isReplaced ? "drop" : "cancel", setId: set.setId });
      return;
    }
    const { kind, state } = this.#input.rollout;
    const isOver = kind === "restart" && state === "rolling-back";
    if (isOver && operation.phase === "updating") return;
    this.#isBusy = true;
    // A set that is changing to a third revision gets the target even beyond the selection.
    const direction = this.#wantsDirection(set) ?? (set.at === "from" ? "from" : "to");
    if (operation.leadsTo === direction && operation.phase !== "updating") {
      if (this.#isFull()) return;
      this.#actions.push({ kind: "adopt", setId: set.setId, direction });
      this.#inFlight += 1;
      this.#atTarget += toTarget(direction) - Number(set.at === "to");
      return;
    }
    const action = redirect(set.setId, operation, direction);
    if (action === undefined) {
      this.#wait("operations");
      return;
    }
    if (action.kind === "turn") {
      if (this.#isFull() || !this.#permitsTurn(set)) return;
      this.#inFlight += 1;
      this.#atTarget += toTarget(direction) - Number(set.at === "to");
      this.#returns ||= direction === "from";
    }
    this.#actions.push(action);
  }

  #begin(set: Candidate, host: NonNullable<Candidate["host"]>, direction: UpdateDirection): void {
    const { rollout, budget } = this.#input;
    this.#isBusy = true;
    const choice = chooseMethod(rollout.strategy.method, set.diff, {
      hasVolume: set.hasVolume,
      hasStaticAddress: set.hasStaticAddress,
      permitsSurge: permitsSurge(budget),
      isAvailable: set.isAvailable,
      isHostDraining: host.isDraining,
    });
    if (!choice.ok) {
      this.#wait("method");
      return;
    }
    const { method } = choice;
    if (method !== "start-first" && !this.#hasImages(set, host.id, direction)) {
      this.#wait("images");
      return;
    }
    if (this.#inFlight >= this.#parallelMax) {
      this.#wait("parallel");
      return;
    }
    const mode = getMode(method, set);
    if (mode !== "none" && !this.#permits(set, mode)) return;
    this.#actions.push({ kind: "begin", setId: set.setId, direction, method });
    this.#returns ||= direction === "from";
    this.#inFlight += 1;
  }

  /** Whether the budget permits the disruption. Counts it if so. */
  #permits({ isAvailable, isYoung }: DisruptedSet, mode: DisruptionMode): boolean {
    const disrupted = { isAvailable, isYoung, mode };
    const verdict = mayDisrupt(this.#input.budget, this.#counts, disrupted);
    if (!verdict.ok) {
      this.#wait(verdict.reason);
      return false;
    }
    this.#counts = countDisruption(this.#counts, disrupted);
    return true;
  }

  /** Whether another record would exceed the input of the next round. */
  #isFull(): boolean {
    const isFull = this.#inFlight >= OPEN_RECORDS_MAX;
    if (isFull) this.#wait("parallel");
    return isFull;
  }

  /** A set may serve during one update, and not during the next one: that needs the budget. */
  #permitsTurn(set: DisruptedSet & { diff: TemplateDiff }): boolean {
    const mode = getMode("in-place", set);
    return mode === "none" || this.#permits(set, mode);
  }

  #chooseFallback({ method, diff }: OpenRecord): UpdateMethod | undefined {
    if (method !== "start-first") return undefined;
    return chooseFallback(this.#input.rollout.strategy.method, diff);
  }

  /** Whether the host has the images of the direction. Requests them if nothing has. */
  #hasImages(
    { setId, diff, images }: Pick<Candidate, "setId" | "diff" | "images">,
    hostId: string | undefined,
    direction: UpdateDirection,
  ): boolean {
    if (!diff.changesImages || images.state === "pulled") return true;
    if (hostId === undefined) return false;
    const { nowMs, rollout } = this.#input;
    const limit = rollout.strategy.progressDeadlineSeconds;
    if (images.state === "missing") this.#prefetch.set(hostId, { hostId, direction });
    if (images.state === "failed") this.#failures.push({ setId, cause: "images", limit: 0 });
    if (images.state === "requested") {
      const failsMs = Math.max(images.atMs, rollout.stepBeganAtMs) + limit * 1_000;
      if (nowMs >= failsMs) this.#failures.push({ setId, cause: "images", limit });
      else this.#nextMs = Math.min(this.#nextMs, failsMs);
    }
    return false;
  }

  #wait(reason: WaitsFor): void {
    this.#isBusy = true;
    this.#waitsFor ??= reason;
  }
}

/**
 * How a running operation gets another direction. Undefined if it has to end first: the set is on
 * its way to another host.
 */
function redirect(
  setId: string,
  { phase }: SetOperation,
  direction: UpdateDirection,
): RolloutAction | undefined {
  if (phase === "waiting") return { kind: "cancel", setId };
  if (phase === "replacing") return { kind: "drop", setId };
  return phase === "updating" ? { kind: "turn", setId, direction } : undefined;
}

/**
 * The disruption that the budget has to permit; none if the set serves during the update. The mover
 * stops a set first that is not available.
 */
function getMode(
  method: UpdateMethod,
  { diff, isAvailable }: { diff: TemplateDiff; isAvailable: boolean },
): DisruptionMode | "none" {
  if (method === "start-first") return isAvailable ? "replace-first" : "stop-first";
  return diff.servesDuringUpdate ? "none" : "stop-first";
}

function toTarget(direction: UpdateDirection): number {
  return Number(direction === "to");
}

/** "20%" of the size, rounded up, and at least one set. */
function countParallel(parallel: number | string | null, desired: number): number {
  if (parallel === null) return Infinity;
  if (typeof parallel === "number") return Math.max(1, parallel);
  return Math.max(1, Math.ceil((desired * Number(parallel.slice(0, -1))) / 100));
}
