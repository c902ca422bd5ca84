import { SYNC_WAIT_MS_MAX } from "../../contracts/agent-protocol/protocol.ts";

/** Intervals, concurrency limits and deadlines of an agent. */
export interface AgentLimits {
  /**
   * Steps that run concurrently, without stops. A step that takes 5 s gives its slot back, so at
   * most twice as many run.
   */
  stepsMax: number;
  /** Concurrent stops that have begun within the last second. */
  stopsMax: number;
  /** Concurrent observations of single sets, without slow ones. */
  observationsMax: number;
  /** Concurrent probes by a command, without slow ones. */
  execProbesMax: number;
  /** Concurrent log streams. */
  streamsMax: number;
  /** The longest wait of a long poll. */
  waitMs: number;
  /** Interval of full syncs, which correct missed changes. */
  fullIntervalMs: number;
  /** Interval of resyncs, which observe the whole host and correct lost events. */
  resyncIntervalMs: number;
  /** Changes within this time share one report. */
  coalesceMs: number;
  usageIntervalMs: number;
  imagesIntervalMs: number;
  /** Interval at which the agent checks volumes and purges expired ones. */
  volumesIntervalMs: number;
  /** Interval at which the agent measures the disk usage of images and containers. */
  diskIntervalMs: number;
  /** An image is garbage only after no set has needed it for this long. */
  imageUnusedMsMin: number;
  /**
   * Interval of pings. A later answer than `pingSlowMs` means slow; two answers in a row later than
   * `pingTimeoutMs` mean unreachable. So the agent reports a hung daemon within interval + 2 x
   * timeout.
   */
  pingIntervalMs: number;
  pingSlowMs: number;
  pingTimeoutMs: number;
  /** Interval at which the agent asks the network driver whether it is ready. */
  driverIntervalMs: number;
  /** Interval after a failure. */
  driverRetryMs: number;
  /** If the driver fails for this long, the host loses the feature `networks`. */
  driverGraceMs: number;
  /** The first self test begins this long after the start of the agent. */
  selfTestDelayMs: number;
  /** Interval of self tests after a passed one. */
  selfTestIntervalMs: number;
  /** Interval of self tests after a failed one. */
  selfTestRetryMs: number;
  /** Deadline of each of the two parts of a self test. */
  selfTestTimeoutMs: number;
  /**
   * After its start, an agent waits this long for the control plane before it starts stopped sets
   * without it.
   */
  startupGraceMs: number;
  /**
   * An agent that Berth refuses for this long is rejected. Until then the cause may be a faulty
   * upgrade or a wrong database.
   */
  rejectedAfterMs: number;
  /** An agent whose host Berth calls deleted for this long stops its sets. */
  deletedAfterMs: number;
  /** The longest pause between the syncs of a rejected agent. */
  rejectedWaitMs: number;
  /**
   * Steps in progress get this long when the agent stops. The next agent repeats unfinished ones.
   */
  stopDeadlineMs: number;
  /** Deadline of the final report. */
  lastReportTimeoutMs: number;
}

export const defaultAgentLimits: AgentLimits = {
  stepsMax: 64,
  stopsMax: 64,
  observationsMax: 64,
  execProbesMax: 32,
  streamsMax: 32,
  waitMs: SYNC_WAIT_MS_MAX,
  fullIntervalMs: 60_000,
  resyncIntervalMs: 60_000,
  coalesceMs: 5,
  usageIntervalMs: 15_000,
  imagesIntervalMs: 60_000,
  volumesIntervalMs: 30_000,
  diskIntervalMs: 60_000,
  imageUnusedMsMin: 120_000,
  pingIntervalMs: 2_000,
  pingSlowMs: 1_000,
  pingTimeoutMs: 2_000,
  driverIntervalMs: 5_000,
  driverRetryMs: 1_000,
  driverGraceMs: 10_000,
  selfTestDelayMs: 5_000,
  selfTestIntervalMs: 600_000,
  selfTestRetryMs: 20_000,
  selfTestTimeoutMs: 120_000,
  startupGraceMs: 30_000,
  rejectedAfterMs: 600_000,
  deletedAfterMs: 60_000,
  rejectedWaitMs: 120_000,
  stopDeadlineMs: 10_000,
  lastReportTimeoutMs: 3_000,
};
