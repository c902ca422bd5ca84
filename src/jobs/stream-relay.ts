import type { Redis } from "ioredis";
import { logStreamRequestSchema, type LogStreamRequest } from "../contracts/agent.ts";
import { AppError, notFound } from "../contracts/app-error.ts";
import type { StreamRelay } from "../services/context.ts";

/** Requests that a host has not taken; more are refused. */
const REQUESTS_PER_HOST_MAX = 100;
const REQUEST_TTL_SECONDS = 60;
/** Chunks that nobody has read yet; the agent waits when there are as many. */
const CHUNKS_BUFFERED_MAX = 64;
/** A reader renews this; when it is gone, so is the reader. */
const READER_TTL_SECONDS = 15;
const STREAM_TTL_SECONDS = 3_600;
const FIRST_CHUNK_TIMEOUT_MS = 10_000;
const POLL_MS = 50;

/**
 * Carries log bytes from an agent, which can only push, to a reader in any process, through a Redis list as a bounded queue. A reader is
 * alive as long as it renews its key, which is how the agent finds out that nobody reads any more. All of it may vanish with
 * Redis: then the reader's request ends, and is made again.
 */
export function createStreamRelay(redis: Redis, prefix: string): StreamRelay {
  const requestsKey = (hostId: string) => `${prefix}:streams:requests:${hostId}`;
  const readerKey = (streamId: string) => `${prefix}:streams:reader:${streamId}`;
  const chunksKey = (streamId: string) => `${prefix}:streams:chunks:${streamId}`;

  async function push(streamId: string, frame: Buffer): Promise<number> {
    const [[, length] = [null, 0]] =
      (await redis
        .multi()
        .rpush(chunksKey(streamId), frame)
        .expire(chunksKey(streamId), STREAM_TTL_SECONDS)
        .exec()) ?? [];
    return Number(length);
  }

  return {
    async request(hostId, request) {
      await unavailableAsProblem(async () => {
        if ((await redis.llen(requestsKey(hostId))) >= REQUESTS_PER_HOST_MAX) {
          throw new AppError("rate-limited", {
            detail: "The host has too many log requests waiting; try again.",
            retryAfterMs: 2_000,
          });
        }
        await redis
          .multi()
          .set(readerKey(request.streamId), "1", "EX", READER_TTL_SECONDS)
          .rpush(requestsKey(hostId), JSON.stringify(request))
          .expire(requestsKey(hostId), REQUEST_TTL_SECONDS)
          .exec();
      });
    },

    async takeRequests(hostId) {
      try {
        const taken = await redis.lpop(requestsKey(hostId), REQUESTS_PER_HOST_MAX);
        return (taken ?? []).flatMap((text): LogStreamRequest[] => {
          const request = logStreamRequestSchema.safeParse(JSON.parse(text));
          return request.success ? [request.data] : [];
        });
      } catch {
        return []; // a sync must not fail because Redis is away; the reader times out and says so
      }
    },

    async append(streamId, chunk) {
      await unavailableAsProblem(async () => {
        let length = await push(streamId, frameOf("data", chunk));
        do {
          if ((await redis.exists(readerKey(streamId))) === 0) {
            await redis.del(chunksKey(streamId));
            throw notFound("stream");
          }
          if (length <= CHUNKS_BUFFERED_MAX) return;
          await new Promise((resolve) => setTimeout(resolve, POLL_MS));
          length = await redis.llen(chunksKey(streamId));
        } while (length > 0);
      });
    },

    async end(streamId, error) {
      await unavailableAsProblem(() =>
        push(
          streamId,
          frameOf(error === undefined ? "end" : "error", new TextEncoder().encode(error ?? "")),
        ),
      );
    },

    async *read(streamId, signal) {
      let deadlineAtMs = Date.now() + FIRST_CHUNK_TIMEOUT_MS;
      try {
        while (!signal.aborted) {
          await redis.set(readerKey(streamId), "1", "EX", READER_TTL_SECONDS);
          const frames = (await redis.lpopBuffer(chunksKey(streamId), CHUNKS_BUFFERED_MAX)) ?? [];
          for (const frame of frames) {
            deadlineAtMs = Number.POSITIVE_INFINITY;
            const kind = kindOf(frame);
            if (kind === "end") return;
            if (kind === "error")
              throw new AppError("state-conflict", { detail: frame.subarray(1).toString("utf8") });
            yield frame.subarray(1);
          }
          if (frames.length > 0) continue;
          if (Date.now() > deadlineAtMs) {
            throw new AppError("dependency-unavailable", {
              detail: "The host's agent did not answer in time.",
              retryAfterMs: 2_000,
            });
          }
          await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        }
      } finally {
        await redis.del(readerKey(streamId), chunksKey(streamId)).catch(() => undefined); // they expire
      }
    },
  };
}

const kinds = ["data", "end", "error"] as const;

/** One byte that says what follows, then the bytes. */
function frameOf(kind: (typeof kinds)[number], bytes: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(kinds.indexOf(kind)), bytes]);
}

function kindOf(frame: Buffer): (typeof kinds)[number] {
  return kinds[frame[0] ?? 0] ?? "error";
}

async function unavailableAsProblem<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("dependency-unavailable", {
      detail: "Logs cannot be carried right now.",
      retryAfterMs: 2_000,
      cause: error,
    });
  }
}
