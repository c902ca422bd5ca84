/** The output of containers. */
export interface LogPort {
  /**
   * Streams a container's output as demultiplexed bytes, with backpressure: the last `tail` lines.
   * With `follow` it continues until aborted, else it ends with the existing output. An aborted
   * signal ends it without an error.
   */
  read(
    dockerId: string,
    range: { tail: number; follow: boolean },
    signal: AbortSignal,
  ): AsyncIterable<Uint8Array>;
}
