import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Redis } from "ioredis";
import type { Log } from "../../lib/log.ts";

const SOCKET = "redis.sock";
/** The kernel's limit, without the terminating zero. */
const SOCKET_PATH_BYTES_MAX = 107;
const START_DEADLINE_MS = 10_000;
const RESTART_DELAY_MS = 500;

export interface EmbeddedRedis {
  /** Path of the socket. */
  target: string;
  stop(): Promise<void>;
}

/**
 * A redis-server for this process, without persistence, because Redis only triggers work (I1). It
 * listens on a Unix socket under `parent` that only its owner can open. The kernel kills it when
 * this process ends for any reason. It is restarted if it exits.
 */
export async function startEmbeddedRedis(parent: string, log: Log): Promise<EmbeddedRedis> {
  const folder = await makeFolder(parent);
  const target = path.join(folder, SOCKET);
  let isStopping = false;
  let child = spawnRedis(folder);
  const watch = (watched: ChildProcess): void => {
    watched.once("exit", (code, signal) => {
      if (isStopping) return;
      log.warn({ code, signal }, "embedded redis exited, restarting it");
      setTimeout(() => {
        if (isStopping) return;
        child = spawnRedis(folder);
        watch(child);
      }, RESTART_DELAY_MS);
    });
    watched.once("error", (error) => log.error({ err: error }, "cannot start redis-server"));
  };
  const stop = async (): Promise<void> => {
    isStopping = true;
    await endChild(child);
    await rm(folder, { recursive: true, force: true });
  };
  const failed = new Promise<never>((_resolve, reject) => {
    child.once("error", (cause) => reject(new Error("cannot start setpriv", { cause })));
    child.once("exit", () =>
      reject(new Error("redis-server exited during its start. Is it installed?")),
    );
  });
  failed.catch(() => undefined); // after the start, `watch` handles an exit
  try {
    await Promise.race([waitForAnswer(target), failed]);
  } catch (error) {
    await stop();
    throw error;
  }
  watch(child);
  return { target, stop };
}

async function makeFolder(parent: string): Promise<string> {
  const folder = path.join(parent, "redis");
  if (Buffer.byteLength(path.join(folder, SOCKET)) > SOCKET_PATH_BYTES_MAX)
    return await mkdtemp(path.join(tmpdir(), "berth-redis-"));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return folder;
}

function spawnRedis(folder: string): ChildProcess {
  const settings = {
    port: "0",
    unixsocket: SOCKET,
    unixsocketperm: "700",
    save: "",
    appendonly: "no",
    "maxmemory-policy": "noeviction", // BullMQ loses jobs under any other
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  return spawn("setpriv", ["--pdeathsig", "KILL", "--", "redis-server", ...args], {
    cwd: folder,
    // Not in this terminal's process group: Ctrl-C must not end it before its users.
    detached: true,
    stdio: "ignore",
  });
}

async function waitForAnswer(target: string): Promise<void> {
  const deadlineAtMs = performance.now() + START_DEADLINE_MS;
  for (;;) {
    const redis = new Redis(target, { lazyConnect: true, retryStrategy: () => null });
    redis.on("error", () => undefined); // connect() rejects with it
    try {
      await redis.connect();
      return;
    } catch (error) {
      if (performance.now() > deadlineAtMs)
        throw new Error("redis-server did not answer within the time limit", { cause: error });
      await delay(10);
    } finally {
      redis.disconnect();
    }
  }
}

async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGKILL"); // it has nothing to save
  await exited;
}
