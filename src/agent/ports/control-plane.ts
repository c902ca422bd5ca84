import type { Sync, SyncResult } from "../../contracts/agent-protocol/sync.ts";

/**
 * The control plane is unreachable or busy, or its answer violates the protocol. A later call may
 * succeed.
 */
export class ControlPlaneError extends Error {
  override readonly name: string = "ControlPlaneError";
  /** HTTP status of the answer; undefined without an answer. */
  readonly status: number | undefined;
  /** The shortest wait before the next call, as the API requests it. */
  readonly retryAfterMs: number | undefined;

  constructor(
    message: string,
    options: { status?: number; retryAfterMs?: number | undefined; cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * An answer with a status of `refusalStatuses`. It may come from a proxy: only `provenCode` is a
 * statement of Berth.
 */
export class RefusedError extends ControlPlaneError {
  override readonly name = "RefusedError";
  /** The code of a problem that Berth has signed for this request. */
  readonly provenCode: string | undefined;

  constructor(message: string, options: { status: number; provenCode: string | undefined }) {
    super(message, options);
    this.provenCode = options.provenCode;
  }
}

/** The API from the agent's side. Each method makes one attempt; its caller waits and retries. */
export interface ControlPlane {
  /**
   * Sends one sync. The call has a deadline of its own beyond `waitMs`. Rejects with
   * ControlPlaneError, or the reason of an aborted `signal`.
   */
  sync(body: Sync, signal: AbortSignal): Promise<SyncResult>;
  /**
   * Streams a log to its reader, with backpressure from the reader. `error` states why the log is
   * incomplete. Resolves after the last chunk, or when the reader disconnects.
   */
  uploadStream(
    streamId: string,
    content: { chunks: AsyncIterable<Uint8Array>; error?: string },
    signal: AbortSignal,
  ): Promise<void>;
}
