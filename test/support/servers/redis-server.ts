import { Redis } from "ioredis";
import { type ChildServer, findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "../wait-until.ts";

export interface RedisServer {
  url: string;
  port: number;
  process: ChildServer;
  stop(): Promise<void>;
}

/** More numbers than a run has test files (see createTestRedis). */
const databasesMax = 1_024;
const startsMax = 3;

/**
 * Starts a Redis on loopback without persistence, on `port` or on a free port. Fault tests kill it
 * and start another one on the same port to lose all data.
 */
export async function startRedis({ port: wanted }: { port?: number } = {}): Promise<RedisServer> {
  for (let attempt = 1; ; attempt += 1) {
    const port = wanted ?? (await findFreePort());
    const server = startChildServer("redis-server", redisArguments(port));
    try {
      await waitUntil("redis answers", () => answers(port, server.pid));
      return {
        url: `redis://127.0.0.1:${port}`,
        port,
        process: server,
        stop: () => server.kill("SIGKILL"),
      };
    } catch (error) {
      await server.kill("SIGKILL");
      if (attempt === startsMax) {
        throw new Error(`redis did not start:\n${server.outputTail()}`, { cause: error });
      }
    }
  }
}

function redisArguments(port: number): string[] {
  // BullMQ loses jobs under any policy that evicts.
  const settings = { "maxmemory-policy": "noeviction", databases: databasesMax, save: "" };
  const place = { port, bind: "127.0.0.1", dir: "/tmp", appendonly: "no" };
  return Object.entries({ ...place, ...settings }).flatMap(([key, value]) => [
    `--${key}`,
    String(value),
  ]);
}

/** Returns whether the server on `port` is the process `pid`, not an earlier owner of the port. */
async function answers(port: number, pid: number): Promise<boolean> {
  const client = new Redis({
    port,
    host: "127.0.0.1",
    lazyConnect: true,
    retryStrategy: () => null,
  });
  client.on("error", () => undefined); // connect() rejects with the same error
  try {
    await client.connect();
    return (await client.info("server")).includes(`process_id:${pid}\r`);
  } finally {
    client.disconnect();
  }
}
