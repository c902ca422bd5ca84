/** pack: empty as many hosts as possible. spread: reduce the largest usage and the skew. */
export const rebalanceGoals = ["pack", "spread"] as const;
export type RebalanceGoal = (typeof rebalanceGoals)[number];

export const rebalanceStates = ["planned", "running", "ended", "canceled"] as const;
export type RebalanceState = (typeof rebalanceStates)[number];

/** The disadvantages of a rebalance, as a sum over its moves. */
export interface RebalanceCost {
  imageBytes: number;
  volumeBytes: number;
  disruptionSeconds: number;
}

export interface RebalanceMove {
  setId: string;
  fromHostId: string;
  toHostId: string;
}

/** Rebalances that Berth starts itself. */
export interface RebalanceSchedule {
  everySeconds: number;
  goal: RebalanceGoal;
  movesMax: number;
  /** Times of a day in UTC, such as 02:00. Null for the whole day. */
  window: { from: string; to: string } | null;
}
