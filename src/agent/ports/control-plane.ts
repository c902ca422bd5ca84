import type { Sync, SyncResult } from "../../contracts/agent-protocol/protocol.ts";

/** The control plane does not know this agent's credential: only a person can help, by enrolling the host anew. */
export class CredentialRefusedError extends Error {
  override readonly name = "CredentialRefusedError";
}

/** The control plane is away, busy, or answered with something else than its contract: later may be better. */
export class ControlPlaneError extends Error {
  override readonly name = "ControlPlaneError";
  /** Of the answer; undefined when there was none. */
  readonly status: number | undefined;
  /** How long it asks to be left alone. */
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

/** The API as an agent sees it. It makes one attempt a call; whoever calls waits and tries again. */
export interface ControlPlane {
  /**
   * One sync, with a deadline of its own beyond `waitMs`. Rejects with CredentialRefusedError, ControlPlaneError, or the
   * reason of an aborted `signal`.
   */
  sync(body: Sync, signal: AbortSignal): Promise<SyncResult>;
  /**
   * Sends a log to its reader as it comes, no faster than the reader takes it; `error` tells the reader why there is no
   * more. Resolves when all was passed on or nobody reads any more.
   */
  uploadStream(
    streamId: string,
    content: { chunks: AsyncIterable<Uint8Array>; error?: string },
    signal: AbortSignal,
  ): Promise<void>;
}
