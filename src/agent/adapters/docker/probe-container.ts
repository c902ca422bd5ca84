import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { connect } from "node:net";
import type { HealthCheck } from "../../../contracts/api/set-template.ts";
import { AgentError } from "../../agent-error.ts";
import type { LocalSetSpec, ProbeResult } from "../../ports/set-port.ts";
import { callDocker, dockerMessage, dockerStatus, toAbortError } from "./call-docker.ts";
import { isInfra, type ListedContainer } from "./container-labels.ts";
import { demultiplex } from "./container-logs.ts";
import type { DockerContext } from "./docker-context.ts";
import { listContainers } from "./list-containers.ts";

const outputBytesMax = 1_024;
const execSetupTimeoutMs = 10_000;

/**
 * SetPort.probe on Docker. A fault of the container, timeouts included, is an unhealthy result.
 * Only a daemon that does not answer is an error, so that it does not count against the container.
 */
export async function probeContainer(
  context: DockerContext,
  set: LocalSetSpec,
  name: string,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const health = set.template.containers.find((container) => container.name === name)?.options
    .health;
  if (!health) return { healthy: true };
  const listed = await listContainers(context, { setId: set.setId, phase: "health" }, signal);
  const container = listed.find((candidate) => candidate.name === name);
  if (container?.dockerState !== "running") {
    return { healthy: false, detail: `the container is ${container?.dockerState ?? "missing"}` };
  }
  if (health.exec) return probeByExec(context, container, health, signal);
  const address = listed.find(isInfra)?.address;
  if (address === undefined) return { healthy: false, detail: "the set has no address" };
  if (health.http) return probeByHttp({ ...health.http, address }, health, signal);
  if (health.tcp) return probeByTcp({ ...health.tcp, address }, health, signal);
  return { healthy: true };
}

/** Sends GET, follows no redirects, and does not read the body. */
function probeByHttp(
  { address, port, path }: { address: string; port: number; path: string },
  { timeoutSeconds }: HealthCheck,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return withinTimeout(timeoutSeconds, signal, (probeSignal, settle) => {
    const get = request(
      { host: address, port, path, agent: false, signal: probeSignal },
      (response) => {
        const status = response.statusCode ?? 0;
        response.destroy();
        settle(
          status >= 200 && status < 400
            ? { healthy: true }
            : { healthy: false, detail: `GET ${path} on port ${port} answered ${status}` },
        );
      },
    );
    get.on("error", (error) => {
      settle({ healthy: false, detail: `GET ${path} on port ${port}: ${error.message}` });
    });
    get.end();
  });
}

function probeByTcp(
  { address, port }: { address: string; port: number },
  { timeoutSeconds }: HealthCheck,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return withinTimeout(timeoutSeconds, signal, (probeSignal, settle) => {
    const socket = connect({ host: address, port, signal: probeSignal });
    socket.on("connect", () => {
      socket.destroy();
      settle({ healthy: true });
    });
    socket.on("error", (error) => {
      settle({ healthy: false, detail: `connect to port ${port}: ${error.message}` });
    });
  });
}

/** Runs one attempt with the check's timeout. Rejects only when `signal` is aborted. */
function withinTimeout(
  timeoutSeconds: number,
  signal: AbortSignal,
  attempt: (probeSignal: AbortSignal, settle: (result: ProbeResult) => void) => void,
): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(toAbortError(signal));
    const controller = new AbortController();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    };
    const settle = (result: ProbeResult) => {
      end();
      resolve(result);
    };
    const onAbort = () => {
      end();
      reject(toAbortError(signal));
      controller.abort();
    };
    const timer = setTimeout(() => {
      settle({ healthy: false, detail: `no answer within ${timeoutSeconds} s` });
      controller.abort();
    }, timeoutSeconds * 1_000);
    signal.addEventListener("abort", onAbort, { once: true });
    return attempt(controller.signal, settle);
  });
}

/** Runs the command in the container, and retains the first KiB of its output for the detail. */
async function probeByExec(
  context: DockerContext,
  container: ListedContainer,
  health: HealthCheck,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const timeoutMs = health.timeoutSeconds * 1_000;
  const { docker } = context;
  const command = health.exec?.command ?? [];
  const setup = { phase: "health" as const, timeoutMs: execSetupTimeoutMs };
  try {
    const exec = await callDocker(setup, signal, (abortSignal) =>
      docker.getContainer(container.dockerId).exec({
        Cmd: command,
        AttachStdout: true,
        AttachStderr: true,
        abortSignal,
      }),
    );
    const stream = await callDocker(setup, signal, () => exec.start({ Detach: false, Tty: false }));
    const output = await readOutput(stream, timeoutMs, signal);
    const state = await callDocker(setup, signal, () => exec.inspect());
    if (output === undefined) {
      await killProbe(state.Pid, container.dockerId);
      return { healthy: false, detail: `"${command[0]}" took more than ${timeoutMs} ms` };
    }
    if (state.ExitCode === 0) return { healthy: true };
    const outputText = output === "" ? "" : `: ${output}`;
    return { healthy: false, detail: `"${command[0]}" exited with ${state.ExitCode}${outputText}` };
  } catch (error) {
    const status = dockerStatus(error);
    if (status === undefined || status >= 500) throw error;
    return { healthy: false, detail: dockerMessage(error) };
  }
}

/** The first KiB of the output; undefined if the stream does not end in time. */
async function readOutput(
  stream: NodeJS.ReadableStream & { destroy(): unknown },
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const late = new AbortController();
  const isLate = () => late.signal.aborted;
  const close = () => stream.destroy();
  const timer = setTimeout(() => {
    late.abort();
    close();
  }, timeoutMs);
  signal.addEventListener("abort", close, { once: true });
  const retained: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of demultiplex(stream)) {
      if (bytes < outputBytesMax) retained.push(chunk.subarray(0, outputBytesMax - bytes));
      bytes += chunk.length;
    }
  } catch (error) {
    if (!isLate() && !signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
  }
  if (signal.aborted) throw toAbortError(signal);
  return isLate() ? undefined : Buffer.concat(retained).toString().trim();
}

/**
 * Kills a probe that hangs. Docker cannot stop an exec, and a check that hangs every two seconds
 * would fill the container. It kills the process only if the kernel says that it is in this
 * container, because the PID may be reused.
 */
async function killProbe(pid: number, dockerId: string): Promise<void> {
  if (pid <= 0) return;
  try {
    if (!(await readFile(`/proc/${pid}/cgroup`, "utf8")).includes(dockerId)) return;
    process.kill(pid, "SIGKILL");
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === "ENOENT" || code === "ESRCH") return; // it has exited
    throw new AgentError("probe-failed", "cannot kill a health check that hangs", {
      phase: "health",
      temporary: true,
      cause: error,
    });
  }
}
