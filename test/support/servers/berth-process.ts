import { findFreePort } from "./child-server.ts";
import { startMain } from "./main-process.ts";

const requestTimeoutMs = 30_000;

/** An all-in-one that may be killed and started again at the same address. */
export interface BerthProcess {
  apiUrl: string;
  /**
   * Sends and receives JSON as the admin. `generation` becomes If-Match. Throws an error with the
   * whole problem if the request fails.
   */
  request<T>(method: string, path: string, body?: unknown, generation?: number): Promise<T>;
  /** Ends it by a signal. Safe to call again. */
  end(signal: NodeJS.Signals): Promise<void>;
  /** Starts it again after `end`, with the same data. */
  startAgain(): Promise<void>;
}

/** Starts it with `env` on a free port, and waits until it is ready. */
export async function startBerth(env: Readonly<Record<string, string>>): Promise<BerthProcess> {
  const port = await findFreePort();
  const adminToken = "brt_an-admin-of-the-end-to-end-tests";
  const settings = { ...env, BERTH_PORT: String(port), BERTH_ADMIN_TOKEN: adminToken };
  const apiUrl = `http://127.0.0.1:${port}`;
  let main = await startMain("all-in-one", settings);
  return {
    apiUrl,
    request: (method, path, body, generation) =>
      requestJson(apiUrl + path, method, adminToken, { body, generation }),
    end: async (signal) => {
      await main.end(signal);
    },
    startAgain: async () => {
      main = await startMain("all-in-one", settings);
    },
  };
}

/** Sends and receives JSON. Throws an error with the whole problem if the request fails. */
export async function requestJson<T>(
  url: string,
  method: string,
  token: string,
  { body, generation }: { body: unknown; generation: number | undefined },
): Promise<T> {
  const response = await fetch(url, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(generation === undefined ? {} : { "If-Match": `"${generation}"` }),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    signal: AbortSignal.timeout(requestTimeoutMs),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${url} answered ${response.status}: ${text}`);
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
