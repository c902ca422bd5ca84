import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, expect, it } from "vitest";
import { waitUntil } from "../../support/wait-until.ts";

/**
 * IDLE_SESSIONS=9900 is the most that the limit of 20,000 files permits, because two sockets of
 * each session are in one process. It takes two minutes of CPU time.
 */
const SESSIONS = Number(process.env["IDLE_SESSIONS"] ?? 2_000);
const OPEN_DEADLINE_MS = 600_000;
/** The time between two pings in operation. */
const ANSWERS_MS = 15_000;
const BYTES_PER_SESSION_MAX = 60 * 1024;
const tsx = pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href;
const program = fileURLToPath(new URL("../../support/servers/idle-sessions.ts", import.meta.url));
const children: ChildProcessWithoutNullStreams[] = [];

afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

interface Line {
  ready?: true;
  url?: string;
  sessions?: number;
  rssBytes?: number;
}

function start(...args: string[]) {
  const node = [process.execPath, "--expose-gc", "--import", tsx, program, ...args];
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...node]);
  children.push(child);
  const lines: Line[] = [];
  createInterface({ input: child.stdout }).on("line", (text) => {
    lines.push(JSON.parse(text) as Line);
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => void (errors += chunk.toString()));
  const until = async (what: string, isDone: (last: Line) => boolean) => {
    const hasEnded = (): boolean => child.exitCode !== null;
    await waitUntil(what, () => hasEnded() || lines.some(isDone), { deadlineMs: OPEN_DEADLINE_MS });
    if (hasEnded()) throw new Error(`the program ended: ${errors}`);
  };
  return { child, lines, until };
}

it("thousands of idle sessions cost less than 60 KiB each, even when all are pinged", async () => {
  const server = start("server");
  await server.until("the server is ready", ({ rssBytes }) => rssBytes !== undefined);
  const before = server.lines.at(-1)?.rssBytes ?? 0;
  const url = server.lines[0]?.url ?? "";
  const halves = ["a", "b"].map((half) => start("peers", `${url}/${half}`, String(SESSIONS / 2)));
  for (const peers of halves)
    await peers.until("all sessions are open", ({ ready }) => ready === true);
  const askServer = async (line: string): Promise<void> => {
    const seen = server.lines.length;
    server.child.stdin.write(`${line}\n`);
    await waitUntil("the server answers", () => server.lines.length > seen);
  };
  await askServer("ping");
  await delay(ANSWERS_MS);
  await askServer("ping");
  await delay(ANSWERS_MS);
  await askServer("print");
  const { sessions, rssBytes = 0 } = server.lines.at(-1) ?? {};
  expect(sessions).toBe(SESSIONS);
  const bytesPerSession = (rssBytes - before) / SESSIONS;
  expect(bytesPerSession).toBeLessThan(BYTES_PER_SESSION_MAX);
  process.stderr.write(`${Math.round(bytesPerSession)} bytes for each idle session\n`);
});
