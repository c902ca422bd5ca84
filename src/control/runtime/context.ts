import type { JobRequest } from "../../contracts/jobs.ts";
import type { LogStreamRequest } from "../../contracts/agent-protocol/protocol.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { Db, Queryable } from "../../db/postgres/open-postgres.ts";
import type { EventInput } from "../../db/queries/events/write-events.ts";
import type { ConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";

/** What every use case is given. Built once per process by its composition root (per request on Workers). */
export interface ControlContext {
  db: Db;
  jobQueue: JobQueue;
  signals: Signals;
  streams: StreamRelay;
  tokenCache: TokenCache;
  /**
   * Reports of sets are stored a few at a time: what a burst makes hosts tell waits for the burst's placements, not the other
   * way round, and an agent tells together what it has to say when its turn comes.
   */
  reportWriteLimit: ConcurrencyLimit;
  log: Log;
  /** The unit of work that `unitOfWork` joins: set inside a request with an Idempotency-Key. */
  unit?: UnitOfWork;
  /** Knobs with safe defaults; see config. */
  settings: ControlSettings;
}

export interface ControlSettings {
  /** How long after its lease ran out a host's sets are replaced. */
  hostLostGraceMs: number;
  /** More hosts of a pool lost at once than this share, and nothing is replaced (I12). One lost host always may be. */
  lostHostsPercentMax: number;
  /** A host whose last report is older takes nothing new. */
  reportAgeMaxMs: number;
  /** What is gone (sets, services, hooks, tokens and what hangs on them) is kept for so long, to be looked into. */
  deletedRetentionMs: number;
}

export const defaultControlSettings: ControlSettings = {
  hostLostGraceMs: 30_000,
  lostHostsPercentMax: 30,
  reportAgeMaxMs: 120_000,
  deletedRetentionMs: 30 * 86_400_000,
};

/**
 * One transaction of a use case, and the effects that it has after its commit.
 *
 * Jobs and events are written in one statement that travels with the commit: either all of it happens or nothing does.
 * After the commit the jobs are enqueued and the signals published. Both are hints: a lost one is found by the outbox
 * relay, by a sweep, or by the waiter's next poll (I1).
 */
export interface UnitOfWork extends Queryable {
  /** The open transaction, for a context whose units of work join this one. */
  readonly database: Db;
  /** Enqueues jobs after the commit. The outbox holds them until BullMQ has them. */
  enqueue(...jobs: readonly JobRequest[]): void;
  /** Wakes the waiters of these channels after the commit. */
  signal(...channels: readonly SignalChannel[]): void;
  /** Appends events, in this order. */
  emit(...events: readonly EventInput[]): void;
  /**
   * Registers a statement that the commit follows without waiting for its answer, which saves a round trip. Nothing of
   * the transaction may depend on the answer: await it after `unitOfWork` has returned.
   */
  sendWithCommit<T>(send: () => Promise<T>): Promise<T>;
  /** Dispatches effects after the commit whose outbox rows and events a statement of this transaction has written. */
  adopt(effects: CommittedEffects): void;
}

/** Effects of a transaction that has committed. */
export interface CommittedEffects {
  jobs: readonly JobRequest[];
  /** Ids of the outbox rows of `jobs`, in their order. */
  outboxIds: readonly number[];
  signals: Iterable<SignalChannel>;
}

/**
 * Adds jobs to BullMQ, after the commit that wrote them to the outbox. Never throws, and blocks for a bounded time: when
 * Redis is unavailable the call gives up, and the outbox relay enqueues the jobs later (I1).
 */
export interface JobQueue {
  /** @param outboxIds rows to delete once the jobs are in BullMQ */
  enqueue(jobs: readonly JobRequest[], outboxIds: readonly number[]): Promise<void>;
}

/**
 * Wakes who waits, across processes. A lost signal costs its waiter one poll interval, never more, so every waiter
 * re-reads the database when its wait ends, however it ended.
 */
export interface Signals {
  /** Never throws; dropped when Redis is away. */
  publish(channels: readonly SignalChannel[]): Promise<void>;
  /**
   * Resolves with true at the next signal on the channel, with false after `timeoutMs` or when aborted; never rejects.
   * Subscribes first, so: call it, then read the database, then await it.
   */
  waitFor(channel: SignalChannel, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
}
export type SignalChannel = `host:${string}` | `service:${string}` | `set:${string}` | "events";

/** Carries a container's log from its host's agent, which pushes, to whoever reads, in whatever process. Bounded buffers; nothing outlives an hour. */
export interface StreamRelay {
  /** Leaves a request for the host's agent; the caller wakes the host. */
  request(hostId: string, request: LogStreamRequest): Promise<void>;
  /** Requests left for a host since last taken. */
  takeRequests(hostId: string): Promise<LogStreamRequest[]>;
  /** Resolves when there is room for more. Rejects with AppError not-found when nobody reads any more. */
  append(streamId: string, chunk: Uint8Array): Promise<void>;
  end(streamId: string, error?: string): Promise<void>;
  /** Chunks in order until the end; throws AppError when the agent reported an error or did not come within 10 s. */
  read(streamId: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** Callers that were authenticated within the last seconds, by the hash of their secret; see tenancy/token-cache.ts. */
export interface TokenCache {
  find(secretHash: string): Caller | undefined;
  /** Caches what `lookUp` finds, unless `clear` was called meanwhile. */
  remember(
    secretHash: string,
    lookUp: () => Promise<Caller | undefined>,
  ): Promise<Caller | undefined>;
  clear(): void;
}
