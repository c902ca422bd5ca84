/**
 * The bytes of a stream that a sender may have in flight. It bounds all buffers on the way: what
 * the receiver has not consumed, the sender has not sent more than once.
 */
export const WINDOW_BYTES = 256 * 1024;

/** The credit of the sender of one stream. */
export class SendWindow {
  #bytes = WINDOW_BYTES;

  /** Takes credit for at most `wanted` bytes, and returns for how many. */
  take(wanted: number): number {
    const taken = Math.min(wanted, this.#bytes);
    this.#bytes -= taken;
    return taken;
  }

  /** Adds credit. Returns false if the receiver grants more than it has received. */
  grant(bytes: number): boolean {
    if (this.#bytes + bytes > WINDOW_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }
}

/** The credit that the receiver of one stream has granted. */
export class ReceiveWindow {
  #bytes = WINDOW_BYTES;
  #consumedBytes = 0;

  /** Counts received bytes. Returns false if the sender has no credit for them. */
  receive(bytes: number): boolean {
    if (bytes > this.#bytes) return false;
    this.#bytes -= bytes;
    return true;
  }

  /**
   * Counts consumed bytes, which were received before. Returns the bytes to grant: none until half
   * of the window is consumed, because each grant costs a message.
   */
  consume(bytes: number): number {
    this.#consumedBytes += bytes;
    if (this.#consumedBytes < WINDOW_BYTES / 2) return 0;
    const granted = this.#consumedBytes;
    this.#consumedBytes = 0;
    this.#bytes += granted;
    return granted;
  }
}
