import {
  type Capability,
  capabilitiesAllowedByDefault,
} from "../../contracts/api/container-options.ts";
import { type CheckedSubnet, checkSubnets } from "../../contracts/api/check-subnets.ts";
import {
  defaultFixedHostPorts,
  defaultHostPortRange,
  type PortRange,
} from "../../contracts/common/port-ranges.ts";
import { SESSION_IDLE_SECONDS_DEFAULT } from "../../contracts/api/sessions.ts";
import type { JobRequest } from "../../contracts/jobs.ts";
import type { LogStreamRequest } from "../../contracts/agent-protocol/log-stream-request.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { Db, Queryable } from "../../db/postgres/open-postgres.ts";
import type { NewService, StoredService } from "../../db/queries/services/write-services.ts";
import type { EmittedEvent } from "../../contracts/api/event-texts.ts";
import type { Keyring } from "../../lib/keyring.ts";
import type { ConcurrencyLimit } from "../../lib/async/concurrency-limit.ts";
import type { Log } from "../../lib/log.ts";
import type { SessionRelay } from "../session-relay/session-relay.ts";

/**
 * The dependencies of use cases. The composition root builds it per process, or per request on
 * Workers.
 */
export interface ControlContext {
  db: Db;
  jobQueue: JobQueue;
  signals: Signals;
  streams: StreamRelay;
  sessions: SessionRelay;
  tokenCache: TokenCache;
  /**
   * Limits the number of reports of sets that are stored concurrently. In a burst, reports thus
   * wait for placements, not placements for reports. An agent that waits sends more changes per
   * report.
   */
  reportWriteLimit: ConcurrencyLimit;
  /**
   * Limits the number of hosts whose answers are read concurrently. One commit may wake thousands
   * of hosts. Without the limit their reads would hold the event loop, and queue ahead of
   * authentication.
   */
  hostAnswerLimit: ConcurrencyLimit;
  /**
   * Limits the number of full answers that are read concurrently. A full answer contains all sets
   * of a host, up to some megabytes, and no agent is in a hurry for it.
   */
  fullAnswerLimit: ConcurrencyLimit;
  serviceInserter: ServiceInserter;
  /** Encrypts secrets in the database. Undefined without a key in the configuration. */
  keyring?: Keyring | undefined;
  log: Log;
  /** The unit of work that `unitOfWork` joins: set inside a request with an Idempotency-Key. */
  unit?: UnitOfWork;
  /** Settings with safe defaults; see src/config. */
  settings: ControlSettings;
}

export interface ControlSettings {
  /** The time between the expiry of a lease and the replacement of the host's sets. */
  hostLostGraceMs: number;
  /**
   * If a larger share of a pool's hosts goes down together, Berth replaces none of their sets
   * (I12). A single lost host is always replaced.
   */
  lostHostsPercentMax: number;
  /** A host whose last report is older gets no new sets. */
  reportAgeMaxMs: number;
  /** The time for which rows of deleted sets, services, hooks and tokens are retained. */
  deletedRetentionMs: number;
  /** Capabilities that a template may add. Sets that exist keep theirs when the list shrinks. */
  capabilitiesAllowed: readonly Capability[];
  /** The subnets of the default network of each tenant. Networks that exist stay unchanged. */
  defaultNetworkSubnets: readonly CheckedSubnet[];
  /** The host ports from which Berth chooses published ports. */
  hostPortRange: PortRange;
  /** The host ports that templates may fix. */
  fixedHostPorts: readonly PortRange[];
  /** A session without a byte in either direction ends after this time. */
  sessionIdleSeconds: number;
}

export const defaultControlSettings: ControlSettings = {
  hostLostGraceMs: 30_000,
  lostHostsPercentMax: 30,
  reportAgeMaxMs: 120_000,
  deletedRetentionMs: 30 * 86_400_000,
  capabilitiesAllowed: capabilitiesAllowedByDefault,
  defaultNetworkSubnets: checkSubnets([{ cidr: "10.64.0.0/16" }], () => undefined),
  hostPortRange: defaultHostPortRange,
  fixedHostPorts: defaultFixedHostPorts,
  sessionIdleSeconds: SESSION_IDLE_SECONDS_DEFAULT,
};

/**
 * One transaction of a use case, and its effects after the commit.
 *
 * One statement, sent together with the commit, writes jobs and events atomically. After the commit
 * the jobs are enqueued and the signals are published. Both are hints: the outbox relay, a sweep or
 * the next poll of a waiter replaces a lost one (I1).
 */
export interface UnitOfWork extends Queryable {
  /** The open transaction, for a context whose units of work join this one. */
  readonly database: Db;
  /** Enqueues jobs after the commit. The outbox has them until their work is done. */
  enqueue(...jobs: readonly JobRequest[]): void;
  /** Wakes the waiters of these channels after the commit. */
  signal(...channels: readonly SignalChannel[]): void;
  /** Appends events in this order. The database layer renders their sentences. */
  emit(...events: readonly EmittedEvent[]): void;
  /**
   * Registers a statement whose answer the commit does not await, which saves a round trip. Nothing
   * in the transaction may depend on the answer: await it after `unitOfWork` has returned.
   */
  sendWithCommit<T>(send: () => Promise<T>): Promise<T>;
  /**
   * Registers effects that a statement has already written, for dispatch after the commit.
   */
  dispatchAfterCommit(effects: CommittedEffects): void;
}

/** The effects of a committed transaction. */
export interface CommittedEffects {
  jobs: readonly JobRequest[];
  /** The ids of the outbox rows of `jobs`, in the same order. */
  outboxIds: readonly number[];
  signals: Iterable<SignalChannel>;
}

/**
 * Adds jobs to BullMQ, after the commit that wrote them to the outbox. Never throws, and waits for
 * a bounded time. If Redis is unavailable, the outbox relay enqueues the jobs later (I1).
 */
export interface JobQueue {
  /** @param outboxIds the rows of the outbox that the job worker deletes after the work */
  enqueue(jobs: readonly JobRequest[], outboxIds: readonly number[]): Promise<void>;
}

/**
 * Wakes waiters in all processes. A lost signal costs its waiter at most one poll interval: each
 * waiter reads the database again after its wait, however the wait ends.
 */
export interface Signals {
  /** Never throws. Drops the signals if Redis is unreachable. */
  publish(channels: readonly SignalChannel[]): Promise<void>;
  /**
   * Resolves with true at the next signal on the channel, and with false after `timeoutMs` or an
   * abort. Never rejects. It subscribes first: call it, then read the database, then await it.
   */
  waitFor(channel: SignalChannel, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
}
export type SignalChannel =
  | `host:${string}`
  | `network:${string}`
  | `service:${string}`
  | `set:${string}`
  | "events";

/**
 * Relays the log of a container from the agent of its host to its reader, across processes. Buffers
 * are bounded, and all keys expire after an hour.
 */
export interface StreamRelay {
  /** Stores a request for the agent of a host. The caller wakes the host. */
  request(hostId: string, request: LogStreamRequest): Promise<void>;
  /** Takes the stored requests for a host. */
  takeRequests(hostId: string): Promise<LogStreamRequest[]>;
  /** Resolves when the buffer has space. Rejects with not-found if the reader has disconnected. */
  append(streamId: string, chunk: Uint8Array): Promise<void>;
  end(streamId: string, error?: string): Promise<void>;
  /** Yields chunks in order. Throws if the agent reports an error, or sends nothing within 10 s. */
  read(streamId: string, signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/**
 * Inserts new services. The concurrent requests of one tenant share statements and commits, so that
 * a burst of requests costs Postgres a fraction of them.
 */
export interface ServiceInserter {
  /**
   * Inserts a service that needs no grants beyond its pool and its priority. It calls
   * `insertChecked` instead if the tenant is near its quota, a grant is missing or the name is
   * taken. Throws overloaded, and what `insertChecked` throws.
   */
  insert(service: NewService, insertChecked: () => Promise<StoredService>): Promise<StoredService>;
}

/** Recently authenticated callers by the hash of their secret; see tenancy/token-cache.ts. */
export interface TokenCache {
  find(secretHash: string): Caller | undefined;
  /** Whether the secret was rejected within the last seconds. */
  isRejected(secretHash: string): boolean;
  /** Caches the result of `lookUp`, even a rejection, unless `clear` ran meanwhile. */
  remember(
    secretHash: string,
    lookUp: () => Promise<Caller | undefined>,
  ): Promise<Caller | undefined>;
  clear(): void;
}
