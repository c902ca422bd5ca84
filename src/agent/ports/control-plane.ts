import type { ReadDesiredSets } from "../../contracts/agent-protocol/read-desired-sets.ts";
import type { Sync, SyncResult } from "../../contracts/agent-protocol/sync.ts";

/**
 * Another agent manages this host. This one must take no step.
 *
 * `admission` is a value of `admissions`, or one that only a newer API knows.
 */
export class NotAdmittedError extends Error {
  override readonly name = "NotAdmittedError";
  readonly admission: string;

  constructor(admission: string) {
    super(`the control plane does not admit this agent: ${admission}`);
    this.admission = admission;
  }
}

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

/** The answer to a sync, with its sets as far as this agent can read them. */
export type SyncAnswer = SyncResult & Partial<Omit<ReadDesiredSets, "sets">>;

export interface SyncOptions {
  /** The machine shuts down, and this boot sends no more syncs. */
  isEnding?: boolean;
  /** Without it, the sync says nothing about the capabilities of the agent. */
  capabilitiesVersion?: string;
}

/** The API from the agent's side. Each method makes one attempt; its caller waits and retries. */
export interface ControlPlane {
  /**
   * Sends one sync. The call has a deadline of its own beyond `waitMs`. Rejects with
   * NotAdmittedError, ControlPlaneError, or the reason of an aborted `signal`.
   */
  sync(body: Sync, signal: AbortSignal, options?: SyncOptions): Promise<SyncAnswer>;
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
