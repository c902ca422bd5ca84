import { connect } from "node:net";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { inject } from "vitest";
import { requestJson } from "../servers/berth-process.ts";
import { waitUntil } from "../wait-until.ts";

/** The test host of scripts/modern-host, on which the agent runs as its systemd unit. */
export interface ModernHostAddress {
  /** The folder that scripts/modern-host was started with. */
  folder: string;
  apiUrl: string;
  adminToken: string;
}

declare module "vitest" {
  interface ProvidedContext {
    modernHost: ModernHostAddress;
  }
}

const shellPort = 7000;
const retryEveryMs = 250;
/** A boot takes 10 s of CPU time, on a machine that may be busy. */
export const BOOT_DEADLINE_MS = 300_000;
const scriptDeadlineMs = 300_000;

export interface ScriptResult {
  output: string;
  exitCode: number;
}

/** Runs a Bash script on the host as root. Throws with its output unless its exit code is 0. */
export async function runOnHost(script: string, folder = inject("modernHost").folder) {
  const { output, exitCode } = await tryOnHost(script, { folder });
  if (exitCode !== 0) throw new Error(`exit code ${exitCode} of\n${script}\n${output}`);
  return output.trim();
}

/** Runs a Bash script on the host as root. Throws if the host does not run, or ends meanwhile. */
export async function tryOnHost(
  script: string,
  {
    folder = inject("modernHost").folder,
    deadlineMs = scriptDeadlineMs,
  }: { folder?: string; deadlineMs?: number } = {},
): Promise<ScriptResult> {
  const [token, address] = await Promise.all(
    ["token", "address"].map((file) => readFile(path.join(folder, file), "utf8")),
  );
  const socket = connect({ host: (address ?? "").trim(), port: shellPort });
  const deadline = AbortSignal.timeout(deadlineMs);
  deadline.addEventListener("abort", () => socket.destroy(new Error(`no answer to\n${script}`)));
  socket.write(`${token}\n${Buffer.from(script).toString("base64")}\n`);
  let answer = "";
  for await (const chunk of socket) answer += String(chunk);
  const result = /^([^]*)\n(\d+)\n$/.exec(answer);
  if (!result) throw new Error(`the host ended during\n${script}\n${answer}`);
  return { output: result[1] ?? "", exitCode: Number(result[2]) };
}

/** Waits until the host has booted, since `previousBootId` if it is given. Returns its boot id. */
export async function waitForBoot(folder: string, previousBootId = ""): Promise<string> {
  return waitUntil(
    "the test host has booted",
    async () => {
      const bootId = await withDeadline(
        runOnHost(
          "systemctl is-system-running --wait >&2; cat /proc/sys/kernel/random/boot_id",
          folder,
        ),
      );
      return bootId !== previousBootId && bootId;
    },
    { deadlineMs: BOOT_DEADLINE_MS, everyMs: retryEveryMs },
  );
}

/** A host that is not there yet loses packets, so a connection to it may take a minute to fail. */
async function withDeadline<T>(running: Promise<T>): Promise<T> {
  running.catch(() => undefined);
  const late = delay(BOOT_DEADLINE_MS / 4, undefined, { ref: false }).then((): never => {
    throw new Error("no answer");
  });
  late.catch(() => undefined);
  return Promise.race([running, late]);
}

/** Sends a request to the API as its admin. `generation` becomes If-Match. */
export async function requestBerth<T>(
  method: string,
  target: string,
  body?: unknown,
  generation?: number,
): Promise<T> {
  const { apiUrl, adminToken } = inject("modernHost");
  return requestJson<T>(apiUrl + target, method, adminToken, { body, generation });
}

const agentInvocation = "systemctl show --property=InvocationID --value berth-host-agent";

/** Runs a script that ends the agent, and waits until another agent is ready. */
export async function replaceAgent(script: string): Promise<void> {
  const previous = await runOnHost(agentInvocation);
  await runOnHost(script);
  await waitUntil(
    "another agent is ready",
    async () => {
      const next = await runOnHost(agentInvocation);
      if (next === previous || next === "") return false;
      const log = await runOnHost(`journalctl --output=cat _SYSTEMD_INVOCATION_ID=${next}`);
      return log.includes('"msg":"ready"');
    },
    { deadlineMs: BOOT_DEADLINE_MS, everyMs: retryEveryMs },
  );
}

/** Shuts the host down in order. scripts/modern-host boots it again. */
export async function shutDown(): Promise<void> {
  // The shutdown may end the shell before it has answered.
  await tryOnHost("systemctl poweroff").catch(() => undefined);
}

/** Ends the host like a power failure. scripts/modern-host boots it again. */
export async function cutPower(): Promise<void> {
  const pid = await readFile(path.join(inject("modernHost").folder, "pid"), "utf8");
  process.kill(Number(pid), "SIGKILL");
}
