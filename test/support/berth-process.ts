import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type ChildServer, findFreePort, startChildServer } from "./child-server.ts";
import { waitUntil } from "./wait-until.ts";

const readyDeadlineMs = 60_000;
const requestTimeoutMs = 30_000;
const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;

/** Berth as a user starts it, in a process of its own that may be killed and started again at its address. */
export interface BerthProcess {
  apiUrl: string;
  adminToken: string;
  /** JSON in, JSON out, as the admin. Throws with the whole problem for an answer that is no success. */
  request<T>(method: string, path: string, body?: unknown): Promise<T>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** After `kill`: the same again, on what it left behind. */
  startAgain(): Promise<void>;
  outputTail(): string;
}

/** Starts src/main/`program`.ts on a free port and waits until it says that it is ready. */
export async function startBerth(
  program: "all-in-one" | "api",
  env: Record<string, string>,
): Promise<BerthProcess> {
  const port = await findFreePort();
  const adminToken = "brt_an-admin-of-the-end-to-end-tests";
  const apiUrl = `http://127.0.0.1:${port}`;
  const file = fileURLToPath(new URL(`../../src/main/${program}.ts`, import.meta.url));
  const settings = { ...env, BERTH_PORT: String(port), BERTH_ADMIN_TOKEN: adminToken };
  const assignments = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  const start = async (): Promise<ChildServer> => {
    const args = [...assignments, process.execPath, "--import", tsx, file];
    const child = startChildServer("/usr/bin/env", args, { deathSignal: "TERM" });
    const isReady = async () => (await fetch(`${apiUrl}/readyz`)).ok;
    await waitUntil(`${program} is ready`, isReady, { deadlineMs: readyDeadlineMs }).catch(
      async (error: unknown) => {
        await child.kill();
        throw new Error(`${program} did not start:\n${child.outputTail()}`, { cause: error });
      },
    );
    return child;
  };
  let child = await start();
  return {
    apiUrl,
    adminToken,
    request: (method, path, body) => requestJson(apiUrl + path, method, adminToken, body),
    kill: (signal) => child.kill(signal),
    startAgain: async () => {
      child = await start();
    },
    outputTail: () => child.outputTail(),
  };
}

async function requestJson<T>(
  url: string,
  method: string,
  token: string,
  body: unknown,
): Promise<T> {
  const response = await fetch(url, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    signal: AbortSignal.timeout(requestTimeoutMs),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${url} answered ${response.status}: ${text}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
