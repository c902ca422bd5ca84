import { setTimeout as delay } from "node:timers/promises";
import { assertWanted, ConnectionQueue, type QueueLimits } from "./connection-queue.ts";
import { ConnectionLost, runTransaction, type TransactionClient } from "./pipelined-transaction.ts";
import {
  type Answer,
  type ClientSource,
  isClosing,
  PooledConnection,
} from "./pooled-connection.ts";
import type { Work, WorkKind } from "./work.ts";

/** How often a transaction may meet a connection that is being closed, before it fails. */
const UNBEGUN_MAX = 2;
const END_POLL_MS = 10;
const TICK_MS = 1_000;
const IDLE_MAX_MS = 60_000;
/** A connection is replaced at this age, so that a failover or a new DNS answer is noticed. */
const AGE_MAX_MS = 45 * 60_000;

export interface PoolOptions {
  size: number;
  source: ClientSource;
  /** Called when the server of a connection is read-only. */
  onReadOnly?: (() => void) | undefined;
  /** Session settings of each connection. */
  settings: Readonly<Record<string, string>>;
  /** Statements in flight on one connection. 1: a statement has its connection to itself. */
  inFlightMax: number;
  queue: QueueLimits;
  /** A connection is closed if it sends no data for this time while a statement waits. */
  answerTimeoutMs: number;
  /** Connections that work of this kind leaves free for others. */
  leavesFree?: (kind: WorkKind) => number;
  /** Connections that the work of one owner holds at most. */
  perOwnerMax?: number;
  idleMaxMs?: number;
  tickMs?: number;
}

/**
 * A pool of connections to Postgres, each a driver client of one connection. README.md says why
 * this is not the pool of the driver.
 *
 * Each wait for a connection has a deadline, the queue has a bound, and the pool closes a
 * connection that stops responding.
 */
export class ConnectionPool {
  readonly #options: PoolOptions;
  readonly #connections: PooledConnection[];
  readonly #queue: ConnectionQueue;
  readonly #heldByOwner = new Map<string, number>();
  readonly #tickMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;
  #isEnding = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#queue = new ConnectionQueue(options.queue);
    this.#tickMs = options.tickMs ?? TICK_MS;
    this.#connections = Array.from({ length: options.size }, () => this.#createConnection());
  }

  /** How much work waits for a connection. */
  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * Runs one statement. Rejects with `overloaded` when no connection is free in time, and with
   * `request-timeout` when the work is late or aborted. The statement was not sent then.
   */
  run(query: string, parameters?: never[], work?: Work): Answer {
    const connection = this.#isEnding ? undefined : this.#take(work);
    if (connection?.isReady) {
      const answer = connection.send(query, parameters);
      const release = (): void => this.#release(connection, work);
      answer.then(release, release);
      return answer;
    }
    return deferAnswer(async (isRaw) => {
      const taken = connection ?? (await this.#wait(work));
      try {
        await taken.open();
        const answer = taken.send(query, parameters);
        return await (isRaw() ? answer.values() : answer);
      } finally {
        this.#release(taken, work);
      }
    });
  }

  /**
   * Runs a transaction on a connection of its own. `work` runs again when the connection was
   * closed before the transaction had begun. Throws as `run` does, and ConnectionLost.
   */
  async begin<T>(body: (client: TransactionClient) => Promise<T>, work?: Work): Promise<T> {
    for (let unbegun = 0; ; unbegun++) {
      const connection = this.#take(work) ?? (await this.#wait(work));
      try {
        await connection.open();
        return await runTransaction(connection, body);
      } catch (error) {
        if (!(error instanceof ConnectionLost) || error.hasBegun) throw error;
        if (!isClosing(error.cause)) throw error.cause;
        if (unbegun === UNBEGUN_MAX) throw error;
      } finally {
        this.#release(connection, work);
      }
    }
  }

  /**
   * Replaces all open connections: their server became read-only, so the primary is elsewhere.
   * Statements in flight get their answers.
   */
  renew(): void {
    for (const connection of this.#connections) if (connection.isReady) connection.retire();
  }

  /**
   * Closes all connections once their statements are answered, or after `timeoutSeconds`. Waiting
   * work fails.
   */
  async end(timeoutSeconds: number): Promise<void> {
    const deadlineAtMs = performance.now() + timeoutSeconds * 1_000;
    const isBusy = (): boolean => this.#connections.some(({ inFlight }) => inFlight > 0);
    while (isBusy() && performance.now() < deadlineAtMs) await delay(END_POLL_MS);
    this.#isEnding = true;
    clearInterval(this.#timer);
    this.#queue.end();
    const busy = this.#connections.filter(({ inFlight }) => inFlight > 0);
    for (const connection of busy) connection.abandon();
    await Promise.all(this.#connections.map((connection) => connection.close(1)));
  }

  #createConnection(): PooledConnection {
    const { source, settings, onReadOnly = () => this.renew() } = this.#options;
    return new PooledConnection(source, settings, {
      onLost: (lost) => {
        if (!this.#isEnding) this.#replace(lost);
      },
      onReadOnly,
    });
  }

  #replace(connection: PooledConnection): void {
    const position = this.#connections.indexOf(connection);
    if (position === -1) return;
    this.#connections[position] = this.#createConnection();
    this.#serveQueue();
  }

  async #wait(work: Work | undefined): Promise<PooledConnection> {
    if (this.#isEnding) throw new Error("the pool has ended");
    return this.#queue.wait(work);
  }

  /** A connection for the work, or undefined when it has to queue. Throws when the work is late. */
  #take(work: Work | undefined): PooledConnection | undefined {
    assertWanted(work);
    return this.#isAdmitted(work) ? this.#takeLeastBusy(work) : undefined;
  }

  #takeLeastBusy(work: Work | undefined): PooledConnection | undefined {
    // The first of equals, so that a connection that is seldom needed is seldom open.
    const [first, ...others] = this.#connections;
    if (!first) return undefined;
    let best = first;
    for (const other of others) if (other.inFlight < best.inFlight) best = other;
    if (best.inFlight >= this.#options.inFlightMax) return undefined;
    best.inFlight += 1;
    const owner = this.#options.perOwnerMax === undefined ? undefined : work?.owner;
    if (owner !== undefined) this.#heldByOwner.set(owner, (this.#heldByOwner.get(owner) ?? 0) + 1);
    this.#timer ??= this.#startTimer();
    return best;
  }

  #isAdmitted(work: Work | undefined): boolean {
    const { leavesFree, perOwnerMax } = this.#options;
    if (perOwnerMax !== undefined && work?.owner !== undefined) {
      if ((this.#heldByOwner.get(work.owner) ?? 0) >= perOwnerMax) return false;
    }
    const left = leavesFree?.(work?.kind ?? "job") ?? 0;
    if (left === 0) return true;
    const free = this.#connections.filter(({ inFlight }) => inFlight === 0).length;
    return free > left;
  }

  #release(connection: PooledConnection, work: Work | undefined): void {
    connection.inFlight -= 1;
    connection.idleSinceMs = performance.now();
    const owner = this.#options.perOwnerMax === undefined ? undefined : work?.owner;
    if (owner !== undefined) {
      const held = (this.#heldByOwner.get(owner) ?? 1) - 1;
      if (held === 0) this.#heldByOwner.delete(owner);
      else this.#heldByOwner.set(owner, held);
    }
    this.#serveQueue();
  }

  #serveQueue(): void {
    if (this.#queue.length === 0) return;
    this.#queue.serve((work) => (this.#isAdmitted(work) ? this.#takeLeastBusy(work) : undefined));
  }

  #startTimer(): ReturnType<typeof setInterval> {
    const timer = setInterval(() => this.#tick(), this.#tickMs);
    timer.unref();
    return timer;
  }

  #tick(): void {
    const ticksMax = Math.ceil(this.#options.answerTimeoutMs / this.#tickMs);
    const idleMaxMs = this.#options.idleMaxMs ?? IDLE_MAX_MS;
    const nowMs = performance.now();
    for (const connection of this.#connections) {
      connection.tick(ticksMax);
      if (connection.inFlight > 0 || !connection.isReady) continue;
      const isStale = nowMs - connection.openedAtMs > AGE_MAX_MS;
      if (!isStale && nowMs - connection.idleSinceMs < idleMaxMs) continue;
      // It leaves the pool before it is closed, so no statement meets a connection that is being
      // closed.
      this.#replace(connection);
      connection.close(1).catch(() => undefined);
    }
  }
}

/**
 * An answer whose statement is sent later. `values` must be called in the same turn, as drizzle
 * does.
 */
function deferAnswer(run: (isRaw: () => boolean) => Promise<unknown>): Answer {
  let isRaw = false;
  const started = Promise.resolve().then(() => run(() => isRaw));
  const answer = Object.assign(started, {
    values: () => {
      isRaw = true;
      return answer;
    },
  });
  return answer as unknown as Answer;
}
