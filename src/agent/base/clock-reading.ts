/** Both clocks, read together. */
export interface ClockReading {
  /** Monotonic milliseconds since an arbitrary start, for due times and durations. */
  nowMs: number;
  /** Wall clock, only for texts that people read. It may step in either direction. */
  wallMs: number;
}
