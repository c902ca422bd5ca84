import type { HostState } from "../../contracts/api/hosts.ts";
import type { DisruptionBudget } from "../../contracts/api/disruption-budget.ts";
import type { OperationOwner, OperationPhase } from "../../contracts/api/operations.ts";
import type {
  RolloutKind,
  RolloutSelection,
  RolloutStrategy,
  UpdateDirection,
  UpdateMethod,
} from "../../contracts/api/rollouts.ts";
import type { SetState } from "../../contracts/api/sets.ts";
import type { TemplateDiff } from "./compare-templates.ts";
import type { ReplicaCounts } from "./may-disrupt.ts";

/**
 * The facts from which `planRollout` decides. The caller reads all of them in one transaction,
 * under the lock of the service. Times are milliseconds of the database's clock (I16).
 */
export interface RolloutInput {
  nowMs: number;
  rollout: RolloutFacts;
  budget: DisruptionBudget;
  counts: ReplicaCounts;
  totals: RolloutTotals;
  /** At most `CANDIDATES_MAX`, see `Candidate`. */
  candidates: readonly Candidate[];
  /** At most `OPEN_RECORDS_MAX`: sets whose update this rollout has begun, and has not ended. */
  open: readonly OpenRecord[];
  /** At most `CANDIDATES_MAX`, see `UnhealthySet`. */
  unhealthy: readonly UnhealthySet[];
}

export const CANDIDATES_MAX = 200;
/** The planner begins no further set beyond it, whatever the budget permits. */
export const OPEN_RECORDS_MAX = 400;

/**
 * Where a set is between the two revisions of a rollout. `other` is a third revision: that of an
 * earlier rollout, which this one has superseded. In a restart, both revisions are the same: `to`
 * means that the set was restarted, or created, since the rollout began.
 */
export type Position = "from" | "to" | "other";

export interface RolloutFacts {
  /**
   * update: from one revision to another. restart: the same revision with new containers, which
   * nothing can return.
   */
  kind: RolloutKind;
  state: "running" | "paused" | "rolling-back";
  strategy: RolloutStrategy;
  /** The index of the current step. */
  step: number;
  /**
   * The selection of the current step, or another one to which a user has promoted. The rollout can
   * complete only with `{percent: 100}`.
   */
  selection: RolloutSelection;
  /** Sets at the target beyond the selection return. Only a promotion to fewer sets sets it. */
  returnsExcess: boolean;
  /** When the step began, was resumed, or began to return: nothing fails by earlier times. */
  stepBeganAtMs: number;
  /** Since when the condition of the step's promotion holds. */
  gateSinceMs: number | undefined;
  /**
   * The newest pushed value of the metric of the step, and since when the values have been within
   * its limits. Undefined if there is none.
   */
  measurement: { value: number; atMs: number; withinSinceMs: number | undefined } | undefined;
}

/** Replicas of the service, without those that a user stopped. */
export interface RolloutTotals {
  /** The size of the service. More or fewer replicas may exist. */
  desired: number;
  /** Replicas that a selection by zone, label or id matches. */
  selected: number;
  /** By their revision now, including those whose update in place is in progress. */
  atTarget: number;
  /** Available as in `ReplicaCounts`. */
  availableAtTarget: number;
  selectedAvailableAtTarget: number;
  atOther: number;
}

/** The operation of a set in progress. */
export interface SetOperation {
  phase: OperationPhase;
  /** Of `rollout` only this rollout or one that it superseded, because a service has one. */
  owner: OperationOwner;
  /** The revision that the set has once the operation ends. */
  leadsTo: Position;
}

/**
 * A set that this rollout may begin to change; it has no open record. The caller passes the first
 * ones of this order. Last are sets that cannot begin: their host is not ready, or another owner
 * has an operation. Before them, sets that do not serve are first, then those at a third
 * revision, then the others in turns of the zones. Candidates are the sets that
 * - are selected, or at a third revision and not available, and are not at the target; or
 * - are at the target beyond the selection, if the excess returns; newest first; or
 * - are not at the earlier revision, if the rollout rolls back; or
 * - have an operation of a rollout.
 */
export interface Candidate {
  setId: string;
  at: Position;
  /** A selection by zone, label or id matches it. True if the step selects by number. */
  isSelected: boolean;
  /** Both as in `DisruptedSet`: it serves, maybe for less than `minReadySeconds`. */
  isAvailable: boolean;
  isYoung?: boolean | undefined;
  /** A user stopped it, so no container of it runs. */
  isStopped: boolean;
  /** Undefined while the set waits for a host. */
  host: { id: string; state: HostState; isDraining: boolean } | undefined;
  hasVolume: boolean;
  hasStaticAddress: boolean;
  /** The change from its revision to the one that it may get. */
  diff: TemplateDiff;
  images: HostImages;
  operation: SetOperation | undefined;
}

/**
 * Whether the host has the images that the set may get.
 * pulled: it has them, or its agent cannot pull them early. missing: nothing has requested them.
 * requested: since `atMs`. failed: the pull failed permanently.
 */
export type HostImages =
  | { state: "pulled" | "missing" | "failed" }
  | { state: "requested"; atMs: number };

/** A set whose update this rollout has begun. */
export interface OpenRecord {
  setId: string;
  method: UpdateMethod;
  direction: UpdateDirection;
  /** As in `Candidate`. */
  isSelected: boolean;
  /** Of the replica: in a start-first update the old set, until the replacement takes its place. */
  at: Position;
  isAvailable: boolean;
  isYoung?: boolean | undefined;
  diff: TemplateDiff;
  images: HostImages;
  hostId: string | undefined;
  /** Undefined once the operation has ended. */
  operation: SetOperation | undefined;
  /** No host takes the set or its replacement, so the operation waits. */
  isHeld: boolean;
  /** A user stopped the set meanwhile, so it becomes ready only after its start. */
  isStopped: boolean;
  /** When the operation began. Undefined while it waits for budget or capacity. */
  beganAtMs: number | undefined;
  /** The facts of the set that gets the revision: of the replacement, if there is one. */
  updated: {
    isDeleted: boolean;
    state: SetState;
    /** Undefined while its host is not ready, or not known. */
    hostReadySinceMs: number | undefined;
    /**
     * It is ready, and each container that the update replaces is up. That includes containers
     * without which the set serves: a broken one is a failure of the revision, too.
     */
    isReady: boolean;
    /** Since when it is so. Undefined until a report confirms the new containers. */
    readySinceMs: number | undefined;
    /** It was ready with its new containers since `beganAtMs`. */
    wasReady: boolean;
    /** Since when it is unready after it was ready. */
    unreadySinceMs: number | undefined;
    /** The most restarts of one of its containers since `beganAtMs`, without those by Berth. */
    restarts: number;
  };
}

/**
 * A placed set at the target that is not available, or has a container that is not up. It has no
 * open record, and no operation beyond its waiting phase. Sets that the service created meanwhile
 * are among them, and those that a user stopped are not. Sets on hosts that are ready come first.
 */
export interface UnhealthySet {
  setId: string;
  /** Undefined while it is not ready with all containers. */
  readySinceMs: number | undefined;
  wasReady: boolean;
  unreadySinceMs: number | undefined;
  /** When its host got it. */
  placedAtMs: number;
  /** Undefined while its host is not ready. */
  hostReadySinceMs: number | undefined;
}
