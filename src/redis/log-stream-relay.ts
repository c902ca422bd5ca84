import type { Redis } from "ioredis";
import {
  logStreamRequestSchema,
  type LogStreamRequest,
} from "../contracts/agent-protocol/log-stream-request.ts";
import { AppError, notFound } from "../contracts/common/app-error.ts";
import { createBatchedRead } from "../lib/async/batch-reads.ts";
import { withTimeout } from "../lib/async/with-timeout.ts";
import type { StreamRelay } from "../control/runtime/context.ts";

/** Maximum requests that wait for a host; further requests are refused. */
const REQUESTS_PER_HOST_MAX = 100;
const REQUEST_TTL_MS = 30_000;
const TAKE_TIMEOUT_MS = 250;
/** A call that Redis does not answer ends after the timeout of commands, so it delays no others. */
const takeLimits = { keysMax: 100, batchesMax: 64 };
/** Maximum unread chunks of at most 64 KiB: 4 MiB a stream. */
const CHUNKS_BUFFERED_MAX = 64;
const CHUNKS_PER_READ_MAX = 16;
/**
 * A reader renews its claim this often. An expired claim means that the reader has disconnected.
 */
const READER_RENEW_MS = 5_000;
const READER_TTL_MS = 20_000;
const FIRST_CHUNK_TIMEOUT_MS = 10_000;
/** A reader that reads nothing for this time counts as disconnected. */
const FULL_TIMEOUT_MS = 300_000;
const STREAM_TTL_MS = 3_600_000;
const POLL_MS_MIN = 10;
const POLL_MS_MAX = 100;

/** KEYS reader, chunks; ARGV frame, most chunks, lifetime. 1: taken; 0: full; -1: no reader. */
const appendScript = `
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) return -1 end
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[2]) then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1`;

const frameKinds = ["data", "end", "error"] as const;
type FrameKind = (typeof frameKinds)[number];

/**
 * Relays a container's log from the agent, which only pushes, to a reader in any process, through a
 * bounded Redis list. The reader renews a claim. Without the claim, the agent stops. If Redis loses
 * its data, the reader's request fails and the client retries it.
 */
export class RedisStreamRelay implements StreamRelay {
  readonly #redis: Redis;
  readonly #prefix: string;
  /**
   * Takes the requests of several hosts in one call of Redis, if the hosts sync at the same time.
   */
  readonly #takeTexts: (hostId: string) => Promise<string[] | null>;

  constructor(redis: Redis, prefix: string) {
    this.#redis = redis;
    this.#prefix = `${prefix}:streams`;
    this.#takeTexts = createBatchedRead((hostIds) => this.#takeAll(hostIds), takeLimits);
  }

  /** Throws rate-limited if too many requests wait, and dependency-unavailable without Redis. */
  async request(hostId: string, request: LogStreamRequest): Promise<void> {
    const key = this.#requestsKey(hostId);
    await orUnavailable(async () => {
      if ((await this.#redis.llen(key)) >= REQUESTS_PER_HOST_MAX) {
        throw new AppError("rate-limited", {
          detail: "Too many log requests wait for this host. Try again later.",
          retryAfterMs: 2_000,
        });
      }
      // The claim exists before the request, because the agent may be faster than the reader.
      await this.#redis.set(this.#readerKey(request.streamId), "1", "PX", READER_TTL_MS);
      await this.#redis.rpush(key, JSON.stringify(request));
      await this.#redis.pexpire(key, REQUEST_TTL_MS);
    });
  }

  /** Returns none while Redis is unreachable: a log must not fail or delay a sync. */
  async takeRequests(hostId: string): Promise<LogStreamRequest[]> {
    const texts = await withTimeout(this.#takeTexts(hostId), TAKE_TIMEOUT_MS, null);
    return (texts ?? []).flatMap((text) => {
      const request = logStreamRequestSchema.safeParse(JSON.parse(text));
      return request.success ? [request.data] : [];
    });
  }

  async #takeAll(hostIds: readonly string[]): Promise<(string[] | null)[]> {
    const pipeline = this.#redis.pipeline();
    for (const hostId of hostIds) pipeline.lpop(this.#requestsKey(hostId), REQUESTS_PER_HOST_MAX);
    const answers = await pipeline.exec().catch(() => null);
    return hostIds.map((_, index) => (answers?.[index]?.[1] ?? null) as string[] | null);
  }

  async append(streamId: string, chunk: Uint8Array): Promise<void> {
    await this.#push(streamId, encodeFrame("data", chunk));
  }

  /** Resolves even if the reader has disconnected. */
  async end(streamId: string, error?: string): Promise<void> {
    const kind = error === undefined ? "end" : "error";
    try {
      await this.#push(streamId, encodeFrame(kind, new TextEncoder().encode(error ?? "")));
    } catch (cause) {
      if (cause instanceof AppError && cause.code === "not-found") return;
      throw cause;
    }
  }

  async *read(streamId: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const renewing = setInterval(() => void this.#renew(streamId), READER_RENEW_MS);
    const endsAtMs = performance.now() + STREAM_TTL_MS;
    let firstDueAtMs = performance.now() + FIRST_CHUNK_TIMEOUT_MS;
    let pollMs = POLL_MS_MIN;
    try {
      while (!signal.aborted && performance.now() < endsAtMs) {
        const frames = await orUnavailable(() =>
          this.#redis.lpopBuffer(this.#chunksKey(streamId), CHUNKS_PER_READ_MAX),
        );
        for (const frame of frames ?? []) {
          firstDueAtMs = Number.POSITIVE_INFINITY;
          const kind = frameKinds[frame[0] ?? 0];
          if (kind === "end") return;
          if (kind === "error") throw failedStream(frame.subarray(1).toString("utf8"));
          if (frame.length > 1) yield frame.subarray(1);
        }
        if (frames) {
          pollMs = POLL_MS_MIN;
          continue;
        }
        if (performance.now() > firstDueAtMs) throw silentAgent();
        await pause(pollMs, signal);
        pollMs = Math.min(POLL_MS_MAX, pollMs * 1.5);
      }
    } finally {
      clearInterval(renewing);
      // They expire if this fails.
      await this.#redis
        .del(this.#readerKey(streamId), this.#chunksKey(streamId))
        .catch(() => undefined);
    }
  }

  async #renew(streamId: string): Promise<void> {
    await this.#redis
      .multi()
      .set(this.#readerKey(streamId), "1", "PX", READER_TTL_MS)
      .pexpire(this.#chunksKey(streamId), READER_TTL_MS)
      .exec()
      .catch(() => undefined); // the next read fails with the same error
  }

  async #push(streamId: string, frame: Buffer): Promise<void> {
    const startedAtMs = performance.now();
    let pollMs = POLL_MS_MIN;
    for (;;) {
      const taken = await orUnavailable(() =>
        this.#redis.eval(
          appendScript,
          2,
          this.#readerKey(streamId),
          this.#chunksKey(streamId),
          frame,
          CHUNKS_BUFFERED_MAX,
          READER_TTL_MS,
        ),
      );
      if (taken === 1) return;
      if (taken === -1 || performance.now() - startedAtMs > FULL_TIMEOUT_MS)
        throw notFound("stream");
      await pause(pollMs);
      pollMs = Math.min(POLL_MS_MAX, pollMs * 1.5);
    }
  }

  #requestsKey(hostId: string): string {
    return `${this.#prefix}:requests:${hostId}`;
  }

  #readerKey(streamId: string): string {
    return `${this.#prefix}:reader:${streamId}`;
  }

  #chunksKey(streamId: string): string {
    return `${this.#prefix}:chunks:${streamId}`;
  }
}

/** One byte for the kind of frame, then the payload. */
function encodeFrame(kind: FrameKind, bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(frameKinds.indexOf(kind)), bytes]);
}

function failedStream(detail: string): AppError {
  return new AppError("dependency-unavailable", { detail });
}

function silentAgent(): AppError {
  return new AppError("dependency-unavailable", {
    detail: "The host's agent did not respond in time. Try again later.",
    retryAfterMs: 2_000,
  });
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    signal?.addEventListener("abort", finish, { once: true });
  });
}

async function orUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("dependency-unavailable", {
      detail: "Logs are unavailable: Redis does not respond. Try again later.",
      retryAfterMs: 2_000,
      cause: error,
    });
  }
}
