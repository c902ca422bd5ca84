import type { FetchFunction } from "../../../src/cli/api/http-fetch.ts";
import type { CliOptions } from "../../../src/cli/cli-context.ts";
import type { CliSettings } from "../../../src/cli/cli-settings.ts";
import { runCli } from "../../../src/cli/run-cli.ts";
import { Terminal } from "../../../src/cli/output/terminal.ts";

/** The result of one command line, as a script sees it. */
export interface CliRun {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface CliRunOptions {
  fetch: FetchFunction;
  settings?: Partial<CliSettings>;
  stdin?: string;
  isTty?: boolean;
  colorAllowed?: boolean;
  signal?: AbortSignal;
  startProcess?: CliOptions["startProcess"];
  commandName?: string;
  now?: () => number;
  onStdout?: (text: string) => void;
}

/** Files of the machine must not affect the tests. */
const nowhere: CliSettings = {
  apiUrl: "http://berth.test",
  token: "a-token",
  tokenFile: undefined,
  tenant: undefined,
  context: undefined,
  configFile: "/nonexistent/config.json",
  dataDir: "/nonexistent",
};

/** Runs `berth` in this process, with the streams and the API of a test. */
export async function berth(argv: readonly string[], options: CliRunOptions): Promise<CliRun> {
  const output = { stdout: "", stderr: "" };
  const streamOf = (name: "stdout" | "stderr") => ({
    write: (chunk: string | Uint8Array) => {
      const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
      output[name] += text;
      if (name === "stdout") options.onStdout?.(text);
      return true;
    },
  });
  const isTty = options.isTty ?? false;
  const exitCode = await runCli({
    argv,
    commandName: options.commandName ?? "berth",
    settings: { ...nowhere, ...options.settings },
    terminal: new Terminal({
      stdout: streamOf("stdout"),
      stderr: streamOf("stderr"),
      isStdoutTty: isTty,
      isStderrTty: isTty,
      columns: 100,
      colorAllowed: options.colorAllowed ?? true,
    }),
    stdin: (async function* () {
      yield options.stdin ?? "";
    })(),
    version: "1.2.3",
    fetch: options.fetch,
    dialSocket: () => Promise.reject(new Error("this test has no sessions")),
    openConsole: () => {
      throw new Error("this test has no console");
    },
    term: undefined,
    startProcess:
      options.startProcess ??
      (() => {
        throw new Error("this test starts no process");
      }),
    signal: options.signal ?? new AbortController().signal,
    now: options.now ?? Date.now,
  });
  return { exitCode, ...output };
}

/** One request that the API received. */
export interface SeenRequest {
  method: string;
  path: string;
  headers: Headers;
  body: unknown;
}

/**
 * An API that answers each request with the function of the test, and records the requests. Use it
 * to test how the CLI shows responses. test/integration/cli/cli.test.ts tests the requests against
 * the real API.
 */
export function scriptedApi(
  answer: (request: SeenRequest, count: number) => Response | Promise<Response>,
): { fetch: FetchFunction; seen: SeenRequest[] } {
  const seen: SeenRequest[] = [];
  const fetch: FetchFunction = async (url, init) => {
    const { pathname, search } = new URL(url);
    const request: SeenRequest = {
      method: init.method,
      path: pathname + search,
      headers: new Headers(init.headers),
      body: typeof init.body === "string" ? (JSON.parse(init.body) as unknown) : undefined,
    };
    seen.push(request);
    return await answer(request, seen.length);
  };
  return { fetch, seen };
}

export function json(body: unknown, status = 200): Response {
  const type = status >= 400 ? "application/problem+json" : "application/json";
  return new Response(JSON.stringify(body), { status, headers: { "Content-Type": type } });
}

export function page(items: readonly unknown[], nextCursor: string | null = null): Response {
  return json({ items, nextCursor });
}
