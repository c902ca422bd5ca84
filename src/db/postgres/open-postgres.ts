import type { QueueLimits } from "./connection-queue.ts";
import { ConnectionPool, type PoolOptions } from "./connection-pool.ts";
import { createDrizzle, type Db } from "./drizzle-client.ts";
import { openClientSource } from "./open-client.ts";
import type { ClientSource } from "./pooled-connection.ts";
import type { Work, WorkKind } from "./work.ts";

export type { Db } from "./drizzle-client.ts";
/** The argument of each query: the database, or a transaction of it. */
export type Queryable = Pick<Db, "select" | "update" | "delete" | "execute">;

export interface DbHandle {
  db: Db;
  connectionsMax: number;
  close(): Promise<void>;
}

export interface DbOptions {
  /** With several hosts, `postgres://user@a:5432,b:5432/db`, connections go to the primary. */
  databaseUrl: string;
  /** The name of the process in pg_stat_activity, for example berth-api. */
  applicationName?: string;
  connectionsMax: number;
  /** Postgres cancels a statement that runs longer, so that none holds locks indefinitely. */
  statementTimeoutMs: number;
  /**
   * A connection is closed if it sends no data for this time beyond the statement timeout.
   */
  answerMarginMs?: number;
}

interface PoolsOptions extends DbOptions {
  source: ClientSource;
  /** Called when a server refuses a write because it is read-only: no pool should stay there. */
  onReadOnly: () => void;
}

/**
 * Custom plans: Postgres plans each execution. With a cached plan it keeps the plan of an empty
 * table while a burst fills the table. Statements of 0.2 ms took 15 ms in that minute. JIT never
 * pays for statements this short. Nor do parallel workers, which take the processors from the
 * statements of others. Index scans are preferred whatever the statistics say, because frequent
 * lookups have an index.
 */
const customPlans = {
  plan_cache_mode: "force_custom_plan",
  jit: "off",
  enable_seqscan: "off",
  max_parallel_workers_per_gather: "0",
};

/**
 * Generic plans: Postgres plans a statement once a connection, which saves a short statement up
 * to two thirds of its time. Without scans and joins of whole tables the plan can only use
 * indexes, even if the tables were empty at that time.
 */
const genericPlans = {
  plan_cache_mode: "force_generic_plan",
  jit: "off",
  max_parallel_workers_per_gather: "0",
  enable_seqscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
};

/** Shares of the connections. Transactions get the rest. */
const shares = { keyReads: 0.1, agentReads: 0.15, updates: 0.1, lists: 0.2, statements: 0.1 };
/** With fewer connections there is one pool. */
const SEPARATE_POOLS_MIN = 5;
/** With fewer connections agents share the pool of key reads. */
const AGENT_POOL_MIN = 8;

/** A key read takes less than a millisecond: one that runs for seconds meets a fault. */
const KEY_READ_TIMEOUT_MS = 5_000;
/**
 * Lists and streams of users: a page that takes longer is refused, so that it cannot stop the
 * pages of others.
 */
const LIST_TIMEOUT_MS = 5_000;
/** An update fails if a row stays locked for longer: the host reports again in a moment. */
const UPDATE_LOCK_TIMEOUT_MS = 50;
const ANSWER_MARGIN_MS = 5_000;
const KEY_READS_IN_FLIGHT_MAX = 64;
const UPDATES_IN_FLIGHT_MAX = 4;

const queues = {
  short: { waitersMax: 2_000, waitersPerOwnerMax: 2_000, waitMaxMs: 5_000 },
  requests: { waitersMax: 256, waitersPerOwnerMax: 64, waitMaxMs: 10_000 },
} satisfies Record<string, QueueLimits>;

/**
 * The pools of a process. A statement that may wait for a row lock, or that returns much, never
 * shares a connection with authentication and key reads (I15).
 */
interface Pools {
  /**
   * Reads of few rows by key, and authentication: pipelined, with generic plans. They never wait
   * for a row lock.
   */
  keyReads: ConnectionPool;
  /**
   * Key reads of agents, and their authentication. Thousands of hosts read their sets in the same
   * second, and one full response may have megabytes: no user waits behind them (I15).
   */
  agentReads: ConnectionPool;
  /** Single updates of a row that others may have locked: see UPDATE_LOCK_TIMEOUT_MS. */
  updates: ConnectionPool;
  /** Other single statements of requests: lists, streams. */
  lists: ConnectionPool;
  /** Other single statements of jobs and sweeps. */
  statements: ConnectionPool;
  /** Transactions, and single statements that wait for row locks. */
  transactions: ConnectionPool;
}

/** The handles that belong to one database handle, by kind of statement. */
interface HandlesByStatementKind {
  keyReads: Db;
  updates: Db;
  writes: () => Db;
  bind: (work: Work) => Db;
}

const handles = new WeakMap<Queryable, HandlesByStatementKind>();

/**
 * Returns the database handle for reads by key. In a transaction, it is the transaction.
 */
export function dbForKeyReads(q: Queryable): Queryable {
  return handles.get(q)?.keyReads ?? q;
}

/**
 * Returns the database handle for updates of one row that may be locked. On its connections,
 * Postgres refuses the statement (55P03) after 50 ms of waiting. In a transaction, the statement
 * waits.
 */
export function dbForUpdates(q: Queryable): Queryable {
  return handles.get(q)?.updates ?? q;
}

/**
 * Returns the database handle for single statements that may wait for a lock. Each uses a
 * connection exclusively, like a transaction.
 */
export function dbForWrites(q: Queryable): Queryable {
  return handles.get(q)?.writes() ?? q;
}

/**
 * The same database for one piece of work: its statements and transactions wait for connections
 * as `work` says. A transaction, and a database in this process, have no pools: they come back
 * unchanged.
 *
 * The binding is a parameter, not an AsyncLocalStorage: on Node 20 that makes each `await` of the
 * process about five times as expensive.
 */
export function bindWork(db: Db, work: Work): Db {
  return handles.get(db)?.bind(work) ?? db;
}

/**
 * Opens connections on first use. Each pool closes a connection after a minute without use. The
 * process has one pool for each kind of statement. With fewer than five connections (on Workers) it
 * has one pool, without pipelining.
 */
export function openPostgres(options: DbOptions): DbHandle {
  const { connectionsMax, databaseUrl, applicationName = "berth" } = options;
  const source = openClientSource(databaseUrl, applicationName);
  const onReadOnly = (): void => {
    for (const pool of distinct) pool.renew();
  };
  const poolsOptions = { ...options, source, onReadOnly };
  const pools =
    connectionsMax < SEPARATE_POOLS_MIN ? openOnePool(poolsOptions) : openPools(poolsOptions);
  const distinct = [...new Set(Object.values(pools) as ConnectionPool[])];
  return {
    db: createDb(pools, createShared(pools), { kind: "job" }),
    connectionsMax: connectionsMax < SEPARATE_POOLS_MIN ? 1 : connectionsMax,
    close: async () => void (await Promise.all(distinct.map((pool) => pool.end(5)))),
  };
}

function openOnePool(options: PoolsOptions): Pools {
  const only = openPool(options, {
    size: 1,
    settings: { ...customPlans, ...timeouts(options.statementTimeoutMs) },
    inFlightMax: 1,
    queue: queues.requests,
  });
  const reads = { keyReads: only, agentReads: only, lists: only };
  return { ...reads, updates: only, statements: only, transactions: only };
}

function openPools(options: PoolsOptions): Pools {
  const { connectionsMax, statementTimeoutMs } = options;
  const countConnections = (share: number): number =>
    Math.max(1, Math.floor(connectionsMax * share));
  const hasAgentPool = connectionsMax >= AGENT_POOL_MIN;
  const sizes = {
    keyReads: countConnections(shares.keyReads),
    agentReads: hasAgentPool ? countConnections(shares.agentReads) : 0,
    updates: countConnections(shares.updates),
    lists: countConnections(shares.lists),
    statements: countConnections(shares.statements),
  };
  const others = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  const transactions = connectionsMax - others;
  const keyReadTimeoutMs = Math.min(statementTimeoutMs, KEY_READ_TIMEOUT_MS);
  const listTimeoutMs = Math.min(statementTimeoutMs, LIST_TIMEOUT_MS);
  const openReads = (size: number): ConnectionPool =>
    openPool(options, {
      size,
      settings: { ...genericPlans, ...timeouts(keyReadTimeoutMs) },
      inFlightMax: KEY_READS_IN_FLIGHT_MAX,
      queue: queues.short,
    });
  const keyReads = openReads(sizes.keyReads);
  return {
    keyReads,
    agentReads: hasAgentPool ? openReads(sizes.agentReads) : keyReads,
    updates: openPool(options, {
      size: sizes.updates,
      settings: {
        ...genericPlans,
        ...timeouts(keyReadTimeoutMs),
        lock_timeout: String(UPDATE_LOCK_TIMEOUT_MS),
      },
      inFlightMax: UPDATES_IN_FLIGHT_MAX,
      queue: queues.short,
    }),
    lists: openPool(options, {
      size: sizes.lists,
      settings: { ...customPlans, ...timeouts(listTimeoutMs) },
      inFlightMax: 1,
      queue: queues.requests,
      perOwnerMax: half(sizes.lists),
    }),
    statements: openPool(options, {
      size: sizes.statements,
      settings: { ...customPlans, ...timeouts(statementTimeoutMs) },
      inFlightMax: 1,
      queue: queues.requests,
    }),
    transactions: openPool(options, {
      size: transactions,
      settings: { ...customPlans, ...timeouts(statementTimeoutMs) },
      inFlightMax: 1,
      queue: queues.requests,
      leavesFree: (kind) => connectionsLeftFree(kind, transactions),
      perOwnerMax: half(transactions - connectionsLeftFree("request", transactions)),
    }),
  };
}

/**
 * A part of the connections is reserved: requests leave some to agents and jobs, and those leave
 * one to the placer.
 */
function connectionsLeftFree(kind: WorkKind, connections: number): number {
  if (kind === "placement" || connections === 1) return 0;
  return kind === "request" && connections >= 4 ? 2 : 1;
}

function half(connections: number): number {
  return Math.max(1, Math.ceil(connections / 2));
}

function timeouts(statementTimeoutMs: number): Record<string, string> {
  return {
    statement_timeout: String(statementTimeoutMs),
    idle_in_transaction_session_timeout: String(statementTimeoutMs),
  };
}

function openPool(
  options: PoolsOptions,
  pool: Omit<PoolOptions, "source" | "onReadOnly" | "answerTimeoutMs">,
): ConnectionPool {
  const timeoutMs = Number(pool.settings["statement_timeout"]);
  return new ConnectionPool({
    ...pool,
    source: options.source,
    onReadOnly: options.onReadOnly,
    answerTimeoutMs: timeoutMs + (options.answerMarginMs ?? ANSWER_MARGIN_MS),
  });
}

interface Shared {
  keyReads: Db;
  agentReads: Db;
  updates: Db;
}

/** Databases of one kind of statement. Only the kind of the work selects among them. */
function createShared(pools: Pools): Shared {
  const openOn = (pool: ConnectionPool): Db =>
    createDrizzle({
      run: (query, parameters) => pool.run(query, parameters),
      begin: (work) => pools.transactions.begin(work),
    });
  return {
    keyReads: openOn(pools.keyReads),
    agentReads: openOn(pools.agentReads),
    updates: openOn(pools.updates),
  };
}

function createDb(pools: Pools, shared: Shared, work: Work): Db {
  const single = work.kind === "request" ? pools.lists : pools.statements;
  const openOn = (pool: ConnectionPool): Db =>
    createDrizzle({
      run: (query, parameters) => pool.run(query, parameters, work),
      begin: (body) => pools.transactions.begin(body, work),
    });
  const db = openOn(single);
  let writes: Db | undefined;
  handles.set(db, {
    keyReads: work.kind === "agent" ? shared.agentReads : shared.keyReads,
    updates: shared.updates,
    writes: () => (writes ??= openOn(pools.transactions)),
    bind: (other) => createDb(pools, shared, other),
  });
  return db;
}
