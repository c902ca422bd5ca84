import { SYNC_WAIT_MS_MAX } from "../contracts/agent-protocol/protocol.ts";

/** How often, how much at a time, and how long an agent does what it does. */
export interface AgentLimits {
  /** Steps of different sets under way at a time. */
  stepsMax: number;
  /** Probes and looks at single sets under way at a time. */
  looksMax: number;
  /** Logs that are read at a time. */
  streamsMax: number;
  /** How long a sync that waits for news waits. */
  waitMs: number;
  /** All desired sets are asked for this often, to correct what was missed. */
  fullIntervalMs: number;
  /** The whole host is looked at this often, to correct what events did not tell. */
  lookIntervalMs: number;
  /** What changes within this time is reported together. */
  coalesceMs: number;
  usageIntervalMs: number;
  imagesIntervalMs: number;
  /** Volumes are looked at this often, and what is expired is purged. */
  volumesIntervalMs: number;
  /** What images and containers take of the disk is looked at this often. */
  diskIntervalMs: number;
  /** An image is collected only when it was of no use for so long. */
  imageUnusedMsMin: number;
  /**
   * The daemon is asked this often whether it answers: later than the one it is slow, later than the other, twice in a row, it is
   * unreachable. So a daemon that hangs is reported within interval + 2 x timeout.
   */
  pingIntervalMs: number;
  pingSlowMs: number;
  pingTimeoutMs: number;
  /** So long what does not run waits for a word of the control plane, when the agent begins; then it is started without. */
  reviveWithinMs: number;
  /** Steps under way when the agent is stopped get this long to end; they are repeated by the next agent otherwise. */
  stopDeadlineMs: number;
  /** The last report gets this long. */
  lastReportTimeoutMs: number;
}

export const defaultAgentLimits: AgentLimits = {
  stepsMax: 64,
  looksMax: 64,
  streamsMax: 32,
  waitMs: SYNC_WAIT_MS_MAX,
  fullIntervalMs: 60_000,
  lookIntervalMs: 30_000,
  coalesceMs: 5,
  usageIntervalMs: 15_000,
  imagesIntervalMs: 60_000,
  volumesIntervalMs: 30_000,
  diskIntervalMs: 60_000,
  imageUnusedMsMin: 120_000,
  pingIntervalMs: 2_000,
  pingSlowMs: 1_000,
  pingTimeoutMs: 2_000,
  reviveWithinMs: 30_000,
  stopDeadlineMs: 10_000,
  lastReportTimeoutMs: 3_000,
};
