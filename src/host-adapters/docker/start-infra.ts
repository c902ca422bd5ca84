import { readdir, readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { AgentError } from "../../agent/base/agent-error.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import { callDocker, dockerMessage, dockerStatus, findRefusal } from "./call-docker.ts";
import { isCode, readContainerProcess } from "./container-process.ts";
import { infraIdleSeconds, infraReadyLine } from "./container-specs.ts";
import { demultiplex } from "./demultiplex.ts";
import type { DockerContext } from "./docker-context.ts";

const startTimeoutMs = 60_000;
const inspectTimeoutMs = 20_000;
const logsTimeoutMs = 10_000;
const sysctlTimeoutMs = 10_000;
const sysctlPollMs = 10;
/** An infra container whose processes are unreadable has applied its sysctls after this time. */
const sysctlSettleMs = 1_000;
/** More lines than one refusal prints. */
const refusalLinesMax = 20;

/**
 * ContainerPort.startInfra on Docker: it waits until infra has applied the set's sysctls.
 * Business containers may read them at their start. Without sysctls it does not wait.
 */
export async function startInfra(
  context: DockerContext,
  set: LocalSetSpec,
  infraId: string,
  signal: AbortSignal,
): Promise<void> {
  const container = context.docker.getContainer(infraId);
  await context.startLimit(set.tenant, () =>
    callDocker({ phase: "prepare", timeoutMs: startTimeoutMs }, signal, (abortSignal) =>
      container.start({ abortSignal }),
    ).catch((error: unknown) => {
      if (dockerStatus(error) !== 304) throw toStartError(set, error);
    }),
  );
  if (Object.keys(set.template.sysctls).length === 0) return;
  await waitForSysctls(context, infraId, signal);
}

/** Docker's messages about a host port that another program has. They differ between releases. */
const portTaken = /port is already allocated|address already in use|failed to bind (host )?port/i;

/** Names the host ports if one of them is taken. Docker does not always say which one. */
function toStartError({ hostPorts = [] }: LocalSetSpec, error: unknown): unknown {
  const detail = dockerMessage(error);
  if (hostPorts.length === 0 || dockerStatus(error) === undefined || !portTaken.test(detail))
    return error;
  const ports = hostPorts.map(({ hostPort, protocol }) => `${hostPort}/${protocol}`);
  const message = `another program of the host uses a host port of the set (${ports.join(", ")}): ${detail}`;
  const cause = findRefusal(error);
  return new AgentError("host-port-taken", message, { phase: "prepare", temporary: true, cause });
}

/**
 * Waits until the infra container has applied the sysctls, which takes milliseconds, or exits. It
 * asks the kernel and does not use the times of the container's log. After a step of the wall
 * clock, they would hide the line of this run, or show that of an earlier one.
 */
async function waitForSysctls(
  context: DockerContext,
  infraId: string,
  signal: AbortSignal,
): Promise<void> {
  const startedAtMs = performance.now();
  for (;;) {
    const { State: state } = await callDocker(
      { phase: "prepare", timeoutMs: inspectTimeoutMs },
      signal,
      (abortSignal) => context.docker.getContainer(infraId).inspect({ abortSignal }),
    );
    if (!state.Running) throw await toRefusal(context, infraId, signal);
    if (await waitForIdleInfra(state.Pid, startedAtMs + sysctlTimeoutMs, signal)) return;
    if (performance.now() - startedAtMs > sysctlTimeoutMs) {
      const message = `the infra container did not apply the sysctls within ${sysctlTimeoutMs} ms`;
      throw new AgentError("sysctls-late", message, { phase: "prepare", temporary: true });
    }
    // Docker notices the end of the process soon.
    await delay(sysctlPollMs, undefined, { signal });
  }
}

/** False if the process ends, or at the deadline. */
async function waitForIdleInfra(
  pid: number,
  deadlineMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  while (performance.now() < deadlineMs) {
    const state = await readInfraState(pid);
    if (state === "ended") return false;
    if (state === "idle") return true;
    if (state === "unreadable") {
      await delay(sysctlSettleMs, undefined, { signal });
      return (await readContainerProcess(pid)) !== undefined;
    }
    await delay(sysctlPollMs, undefined, { signal });
  }
  return false;
}

/**
 * Idle: infra has reached the end of its script, where a child of its main process sleeps. Infra's
 * own /proc lists the few processes of its PID namespace. It is unreadable without CAP_SYS_PTRACE,
 * if infra has capabilities that the agent lacks.
 */
async function readInfraState(pid: number): Promise<"idle" | "busy" | "ended" | "unreadable"> {
  try {
    return (await isInfraIdle(pid)) ? "idle" : "busy";
  } catch (error) {
    if (isCode(error, "EACCES", "EPERM")) return "unreadable";
    if (isCode(error, "ENOENT", "ESRCH")) return "ended";
    throw error;
  }
}

async function isInfraIdle(pid: number): Promise<boolean> {
  const folder = `/proc/${pid}/root/proc`;
  const entries = await readdir(folder);
  const pids = entries.filter((name) => /^[0-9]+$/.test(name));
  const commandLines = await Promise.all(
    pids.map((own) => readCommandLine(`${folder}/${own}/cmdline`)),
  );
  return commandLines.some((line) => line?.split("\0").includes(infraIdleSeconds));
}

/** Undefined if the process has ended. */
async function readCommandLine(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (isCode(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
}

/** The error with the last lines of infra's output, without those of earlier runs that were up. */
async function toRefusal(
  { docker }: DockerContext,
  infraId: string,
  signal: AbortSignal,
): Promise<AgentError> {
  const printed = await callDocker(
    { phase: "prepare", timeoutMs: logsTimeoutMs },
    signal,
    async (abortSignal) => {
      const output = await docker.getContainer(infraId).logs({
        follow: true, // the client returns a stream only then; it ends with the container
        stdout: true,
        stderr: true,
        tail: refusalLinesMax,
        abortSignal,
      });
      let text = "";
      for await (const chunk of demultiplex(output)) text += Buffer.from(chunk).toString();
      return text;
    },
  );
  const lines = printed.trim().split("\n");
  const ofRun = new Set(lines.slice(lines.lastIndexOf(infraReadyLine) + 1));
  const message = `the set's sysctls cannot be applied: ${[...ofRun].join("\n")}`;
  return new AgentError("sysctl-refused", message, { phase: "prepare", temporary: false });
}
