import type {
  RolloutPhase,
  RolloutSelection,
  UpdateDirection,
  UpdateMethod,
} from "../../contracts/api/rollouts.ts";
import type { SetFailure } from "./judge-sets.ts";

/** The decisions of `planRollout` for one round. The caller stores all of them, or none. */
export interface RolloutPlan {
  /** At most one for each candidate and open record. */
  actions: readonly RolloutAction[];
  /** Hosts that need the images of a direction before a set on them is updated; each one once. */
  prefetch: readonly { hostId: string; direction: UpdateDirection }[];
  next: NextRollout;
  /** Why the rollout makes no more progress in this round. Undefined if it does, or has ended. */
  waitsFor: WaitsFor | undefined;
  /** The time until something may change without a report: 100 to 60,000 ms. */
  dueInMs: number;
}

/**
 * One change of one set.
 *
 * - begin: inserts a waiting operation and a record. The mover starts the operation within the
 *   budget.
 * - assign: changes the revision of a set that no host runs. Nothing else is needed.
 * - adopt: inserts a record for an operation of a rollout that already has the right direction.
 * - cancel: ends the operation, and its record as canceled. It waits, or its set is stopped. A move
 *   of a user or a drain only loses its revision.
 * - turn: an operation in phase `updating` gets this direction and a new record. The host gets a
 *   new generation, so its agent tries again, even if the direction is the one that it had.
 * - drop: deletes the replacement, ends the operation, and ends the record as canceled.
 * - switch: a waiting operation gets another method, because no host takes a replacement.
 * - end: ends the record. The operation remains if it has not ended.
 */
export type RolloutAction =
  | { kind: "begin"; setId: string; direction: UpdateDirection; method: UpdateMethod }
  | { kind: "assign" | "adopt" | "turn"; setId: string; direction: UpdateDirection }
  | { kind: "cancel" | "drop"; setId: string }
  | { kind: "switch"; setId: string; method: UpdateMethod }
  | { kind: "end"; setId: string; outcome: "done" | "lost" | "canceled" }
  | { kind: "end"; setId: string; outcome: "failed"; failure: SetFailure };

export interface NextRollout {
  state: "running" | "paused" | "rolling-back" | "completed" | "rolled-back" | "failed";
  phase: RolloutPhase;
  step: number;
  selection: RolloutSelection;
  returnsExcess: boolean;
  stepBeganAtMs: number;
  gateSinceMs: number | undefined;
  /** Why this plan pauses, rolls back or fails the rollout. Undefined if it does not. */
  failure: { failed: number; first: SetFailure } | undefined;
}

/**
 * max-unavailable, max-surge: the disruption budget. parallel: the limit of the strategy. images:
 * hosts pull. operations: sets have operations of others. hosts: hosts of sets are not ready.
 * method: no method can apply the change to a set. readiness: sets are not available yet.
 * promotion: a user, the time or the metric.
 */
export type WaitsFor =
  | "max-unavailable"
  | "max-surge"
  | "parallel"
  | "images"
  | "operations"
  | "hosts"
  | "method"
  | "readiness"
  | "promotion";
