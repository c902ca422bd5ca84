import { fork } from "node:child_process";
import { once } from "node:events";
import { Agent } from "undici";
import { migrate } from "../../src/db/migrate.ts";
import { findFreePort } from "../support/servers/child-server.ts";
import { startPostgres } from "../support/servers/postgres-server.ts";
import { startRedis } from "../support/servers/redis-server.ts";
import { waitUntil } from "../support/wait-until.ts";
import { postgresSettings } from "./durable-cluster.ts";
import type { LoadOrder, LoadResult } from "./http-load.ts";
import {
  ADMIN_TOKEN,
  buildMain,
  cpuSecondsOf,
  endChild,
  pidOf,
  requestApi,
  startMain,
  terminateChild,
} from "./main-processes.ts";
import { median } from "./percentile.ts";
import { serviceBody } from "./placement-phases.ts";
import { readOptions } from "./read-options.ts";

/**
 * Authenticated reads of services per second, beside Hono alone with the same bodies. Both servers
 * are processes of their own on this machine; one client process loads them in turns. The API logs
 * at its default level.
 */

const SERVICES = 100;
const REPLICAS = 3;
const CONNECTIONS = 32;
const ROUNDS = 5;
const ROUND_MS = 3_000;
const START_DEADLINE_MS = 60_000;
const RATIO_TARGET = 0.25;

interface Target {
  port: number;
  headers: Record<string, string>;
  pid: number;
  /** The Postgres server that it reads from. */
  databasePid?: number;
}

interface Rate {
  perSecond: number;
  /** CPU time of the target for one request, and of its Postgres. */
  cpuMicros: number;
  databaseMicros: number;
}

export async function run(
  options: { args?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  const { rounds, profile } = readOptions(options.args, {
    rounds: ROUNDS,
    /** Writes a CPU profile of the API into this folder. */
    profile: undefined,
  });
  const stops: (() => Promise<unknown>)[] = [];
  try {
    const api = await startApi(stops, profile);
    const bodies = await createServices(api, stops);
    const hono = await startBareHono(bodies, stops);
    const paths = Object.keys(bodies).map((name) => `/v1/services/${name}`);
    return await compare({ api, hono, paths, rounds }, stops);
  } finally {
    for (const stop of stops.toReversed()) await stop();
  }
}

async function startApi(
  stops: (() => Promise<unknown>)[],
  profileFolder: string | undefined,
): Promise<Target> {
  await buildMain();
  const database = await startPostgres(postgresSettings);
  stops.push(() => database.stop());
  const redis = await startRedis();
  stops.push(() => redis.stop());
  await migrate(database.url);
  const port = await findFreePort();
  const env = {
    DATABASE_URL: database.url,
    REDIS_URL: redis.url,
    BERTH_PORT: String(port),
    BERTH_ADMIN_TOKEN: ADMIN_TOKEN,
  };
  const profiling = ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`];
  const child = startMain("api", env, {
    output: "ignore",
    nodeFlags: profileFolder === undefined ? [] : profiling,
  });
  // A profile is written at an orderly exit only.
  stops.push(() => (profileFolder === undefined ? endChild(child) : terminateChild(child)));
  const target = {
    port,
    headers: { authorization: `Bearer ${ADMIN_TOKEN}` },
    pid: pidOf(child),
    databasePid: database.process.pid,
  };
  await waitUntil(
    "the API answers",
    async () => {
      const response = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => undefined);
      return response?.ok === true;
    },
    { deadlineMs: START_DEADLINE_MS },
  );
  return target;
}

/**
 * Returns the body of each service by its name. Their sets stay pending, because no job worker
 * runs.
 */
async function createServices(
  { port }: Target,
  stops: (() => Promise<unknown>)[],
): Promise<Record<string, object>> {
  const dispatcher = new Agent({ connections: 8 });
  stops.push(() => dispatcher.destroy());
  const request = <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const url = `http://127.0.0.1:${port}${path}`;
    return requestApi<T>(dispatcher, { secret: ADMIN_TOKEN, method, url, body });
  };
  const bodies: Record<string, object> = {};
  for (let number = 0; number < SERVICES; number++) {
    const name = `service-${number}`;
    await request("POST", "/v1/services", serviceBody(name, REPLICAS));
    bodies[name] = await request<object>("GET", `/v1/services/${name}`);
  }
  return bodies;
}

async function startBareHono(
  bodies: Record<string, object>,
  stops: (() => Promise<unknown>)[],
): Promise<Target> {
  const child = fork(new URL("./bare-hono.ts", import.meta.url));
  stops.push(() => endChild(child));
  child.send(bodies);
  const [port] = (await once(child, "message")) as [number];
  return { port, headers: {}, pid: pidOf(child) };
}

async function compare(
  { api, hono, paths, rounds }: { api: Target; hono: Target; paths: string[]; rounds: number },
  stops: (() => Promise<unknown>)[],
): Promise<Record<string, unknown>> {
  const client = fork(new URL("./http-load.ts", import.meta.url));
  stops.push(() => endChild(client));
  const measure = async (target: Target): Promise<Rate> => {
    const { port, headers } = target;
    const order: LoadOrder = {
      port,
      headers,
      paths,
      connections: CONNECTIONS,
      durationMs: ROUND_MS,
    };
    const before = cpuOf(target);
    client.send(order);
    const [result] = (await once(client, "message")) as [LoadResult];
    const after = cpuOf(target);
    if (result.failure !== undefined) throw new Error(result.failure);
    const microsEach = (seconds: number): number => Math.round((seconds * 1e6) / result.requests);
    return {
      perSecond: Math.round((result.requests * 1000) / result.durationMs),
      cpuMicros: microsEach(after.own - before.own),
      databaseMicros: microsEach(after.database - before.database),
    };
  };
  await measure(hono); // compiles the code on both sides
  await measure(api);
  const pairs: { hono: Rate; api: Rate }[] = [];
  for (let round = 0; round < rounds; round++) {
    const pair = { hono: await measure(hono), api: await measure(api) };
    pairs.push(pair);
    process.stdout.write(
      `API ${pair.api.perSecond}/s (CPU each: ${pair.api.cpuMicros} us, Postgres ${pair.api.databaseMicros} us), ` +
        `bare Hono ${pair.hono.perSecond}/s (${pair.hono.cpuMicros} us): ratio ${ratioOf(pair).toFixed(3)}\n`,
    );
  }
  const getRatio = median(pairs.map(ratioOf));
  process.stdout.write(`median ratio ${getRatio} (target: at least ${RATIO_TARGET})\n`);
  return {
    getRatio,
    apiPerSecond: median(pairs.map(({ api: rate }) => rate.perSecond)),
    bareHonoPerSecond: median(pairs.map(({ hono: rate }) => rate.perSecond)),
    apiCpuMicros: median(pairs.map(({ api: rate }) => rate.cpuMicros)),
    apiDatabaseMicros: median(pairs.map(({ api: rate }) => rate.databaseMicros)),
    bareHonoCpuMicros: median(pairs.map(({ hono: rate }) => rate.cpuMicros)),
  };
}

function cpuOf({ pid, databasePid }: Target): { own: number; database: number } {
  const database = databasePid === undefined ? [] : [databasePid];
  return {
    own: cpuSecondsOf([pid], { withChildren: false }),
    database: cpuSecondsOf(database, { withChildren: true }),
  };
}

function ratioOf(pair: { hono: Rate; api: Rate }): number {
  return pair.api.perSecond / pair.hono.perSecond;
}
