import postgres from "postgres";
import { openClientSource } from "../../src/db/postgres/open-client.ts";
import { ConnectionPool } from "../../src/db/postgres/connection-pool.ts";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { readOptions } from "./read-options.ts";

/**
 * Compares Berth's connection pool with the pool of the driver, on one Postgres, side by side.
 *
 * - `readAfter…Us`: the mean time of one read by key, in sequence, after so many statements. All
 *   connections are open, and all but one are idle. This is the process that issue 747 of
 *   porsager/postgres describes.
 * - `parallelPerSecond`: reads per second when 64 callers read concurrently.
 * - `transactionUs`: the mean time of a transaction of one update. Four callers run concurrently.
 */

const CONNECTIONS = 8;
const READS_PER_SAMPLE = 5_000;
const PARALLEL_READS = 40_000;
const PARALLEL_CALLERS = 64;
const TRANSACTIONS = 2_000;
const TRANSACTION_CALLERS = 4;
const prepared = { prepare: true, simple: false };

interface Side {
  read(key: number): Promise<unknown>;
  update(key: number): Promise<unknown>;
  end(): Promise<void>;
}

export async function run(options: {
  args: readonly string[];
}): Promise<Record<string, Record<string, number> | number>> {
  const { statements } = readOptions(options.args, { statements: 100_000 });
  const server = await startPostgres({ synchronous_commit: "on", fsync: "on" });
  const setUp = postgres(server.url, { max: 1, onnotice: () => undefined });
  await setUp`create table pairs (key int primary key, value int not null)`;
  await setUp`insert into pairs select n, 0 from generate_series(1, 10000) n`;
  await setUp.end();
  try {
    const sides = { own: openOwn(server.url), driver: openDriver(server.url) };
    const own = await measureSide(sides.own, statements);
    const driver = await measureSide(sides.driver, statements);
    await Promise.all([sides.own.end(), sides.driver.end()]);
    print("own", own);
    print("driver", driver);
    return {
      own,
      driver,
      transactionRatio: ratio(driver["transactionUs"], own["transactionUs"]),
      idleReadRatio: ratio(driver["readAfterManyUs"], own["readAfterManyUs"]),
      parallelRatio: ratio(own["parallelPerSecond"], driver["parallelPerSecond"]),
    };
  } finally {
    await server.stop();
  }
}

const readText = "select value from pairs where key = $1";
const updateText = "update pairs set value = value + 1 where key = $1";

function openOwn(url: string): Side {
  const openPool = (inFlightMax: number): ConnectionPool =>
    new ConnectionPool({
      size: CONNECTIONS,
      source: openClientSource(url, "bench"),
      settings: {},
      inFlightMax,
      queue: { waitersMax: 1_000, waitersPerOwnerMax: 1_000, waitMaxMs: 10_000 },
      answerTimeoutMs: 30_000,
    });
  const reads = openPool(64);
  const transactions = openPool(1);
  return {
    read: async (key) => await reads.run(readText, [key as never]),
    update: (key) =>
      transactions.begin(async (client) => await client.unsafe(updateText, [key as never])),
    end: async () => void (await Promise.all([reads.end(5), transactions.end(5)])),
  };
}

function openDriver(url: string): Side {
  const reads = postgres(url, { max: CONNECTIONS, onnotice: () => undefined });
  const transactions = postgres(url, { max: CONNECTIONS, onnotice: () => undefined });
  return {
    read: async (key) => await reads.unsafe(readText, [key], prepared),
    update: (key) =>
      transactions.begin(async (client) => await client.unsafe(updateText, [key], prepared)),
    end: async () => void (await Promise.all([reads.end(), transactions.end()])),
  };
}

async function measureSide(side: Side, statements: number): Promise<Record<string, number>> {
  // Opens every connection.
  await readInParallel(side, 2_000);
  const readAfterFewUs = await meanReadUs(side);
  for (let count = 0; count < statements; count += 1) await side.read(1 + (count % 10_000));
  const readAfterManyUs = await meanReadUs(side);
  const parallelPerSecond = await readInParallel(side, PARALLEL_READS);
  await updateInParallel(side, 200);
  const startedAtMs = performance.now();
  await updateInParallel(side, TRANSACTIONS);
  const elapsedUs = (performance.now() - startedAtMs) * 1_000;
  const transactionUs = Math.round((elapsedUs * TRANSACTION_CALLERS) / TRANSACTIONS);
  return { readAfterFewUs, readAfterManyUs, parallelPerSecond, transactionUs };
}

async function meanReadUs(side: Side): Promise<number> {
  const startedAtMs = performance.now();
  for (let count = 0; count < READS_PER_SAMPLE; count += 1) await side.read(1 + count);
  return Math.round(((performance.now() - startedAtMs) * 1_000) / READS_PER_SAMPLE);
}

async function readInParallel(side: Side, reads: number): Promise<number> {
  const startedAtMs = performance.now();
  await callInParallel(PARALLEL_CALLERS, reads, (key) => side.read(key));
  return Math.round((reads * 1_000) / (performance.now() - startedAtMs));
}

async function updateInParallel(side: Side, updates: number): Promise<void> {
  await callInParallel(TRANSACTION_CALLERS, updates, (key) => side.update(key));
}

async function callInParallel(
  callers: number,
  calls: number,
  call: (key: number) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const runCaller = async (): Promise<void> => {
    while (next < calls) await call(1 + (next++ % 10_000));
  };
  await Promise.all(Array.from({ length: callers }, runCaller));
}

function ratio(left: number | undefined, right: number | undefined): number {
  return Math.round((100 * (left ?? Number.NaN)) / (right ?? Number.NaN)) / 100;
}

function print(name: string, figures: Record<string, number>): void {
  const text = Object.entries(figures).map(([key, value]) => `${key} ${value}`);
  process.stdout.write(`${name.padEnd(8)}${text.join("  ")}\n`);
}
