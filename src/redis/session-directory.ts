import type { Redis } from "ioredis";
import { z } from "zod";
import {
  SESSIONS_PER_HOST_MAX,
  type SessionRequest,
  sessionRequestSchema,
} from "../contracts/agent-protocol/session-request.ts";
import { AppError } from "../contracts/common/app-error.ts";
import type { SessionDirectory, SessionOwner } from "../control/session-relay/session-directory.ts";
import { createBatchedRead } from "../lib/async/batch-reads.ts";
import { withTimeout } from "../lib/async/with-timeout.ts";

const ENTRY_TTL_MS = 30_000;
const TAKE_TIMEOUT_MS = 250;
/** As for requests of logs: a call that Redis does not answer delays no others. */
const takeLimits = { keysMax: 100, batchesMax: 64 };

const ownerSchema = z.object({ url: z.url(), secret: z.string().min(1) });

/**
 * SessionDirectory in Redis: a list of requests per host, and a key with the owner per session. If
 * Redis loses them, the caller's request fails after ten seconds, and open sessions continue.
 */
export class RedisSessionDirectory implements SessionDirectory {
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #takeTexts: (hostId: string) => Promise<string[] | null>;

  constructor(redis: Redis, prefix: string) {
    this.#redis = redis;
    this.#prefix = `${prefix}:sessions`;
    this.#takeTexts = createBatchedRead((hostIds) => this.#takeAll(hostIds), takeLimits);
  }

  async announce(hostId: string, request: SessionRequest, owner: SessionOwner): Promise<void> {
    const key = this.#requestsKey(hostId);
    await orUnavailable(async () => {
      if ((await this.#redis.llen(key)) >= SESSIONS_PER_HOST_MAX) {
        throw new AppError("rate-limited", {
          detail: "Too many sessions wait for this host. Try again later.",
          retryAfterMs: 2_000,
        });
      }
      // The owner is there before the request, because the agent may be faster than this process.
      const ownerKey = this.#ownerKey(request.sessionId);
      await this.#redis.set(ownerKey, JSON.stringify(owner), "PX", ENTRY_TTL_MS);
      await this.#redis.rpush(key, JSON.stringify(request));
      await this.#redis.pexpire(key, ENTRY_TTL_MS);
    });
  }

  async takeRequests(hostId: string): Promise<SessionRequest[]> {
    const texts = await withTimeout(this.#takeTexts(hostId), TAKE_TIMEOUT_MS, null);
    return (texts ?? []).flatMap((text) => {
      const request = sessionRequestSchema.safeParse(JSON.parse(text));
      return request.success ? [request.data] : [];
    });
  }

  async findOwner(sessionId: string): Promise<SessionOwner | undefined> {
    const text = await orUnavailable(() => this.#redis.get(this.#ownerKey(sessionId)));
    return text === null ? undefined : ownerSchema.safeParse(JSON.parse(text)).data;
  }

  async #takeAll(hostIds: readonly string[]): Promise<(string[] | null)[]> {
    const pipeline = this.#redis.pipeline();
    for (const hostId of hostIds) pipeline.lpop(this.#requestsKey(hostId), SESSIONS_PER_HOST_MAX);
    const answers = await pipeline.exec().catch(() => null);
    return hostIds.map((_, index) => (answers?.[index]?.[1] ?? null) as string[] | null);
  }

  #requestsKey(hostId: string): string {
    return `${this.#prefix}:requests:${hostId}`;
  }

  #ownerKey(sessionId: string): string {
    return `${this.#prefix}:owner:${sessionId}`;
  }
}

async function orUnavailable<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("dependency-unavailable", {
      detail: "Sessions are unavailable: Redis does not respond. Try again later.",
      retryAfterMs: 2_000,
      cause: error,
    });
  }
}
