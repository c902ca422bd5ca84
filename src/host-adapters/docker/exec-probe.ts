import type Docker from "dockerode";
import type { HealthCheck } from "../../contracts/api/set-template.ts";
import type { ProbeResult } from "../../agent/model/local-set.ts";
import { onAbort, runAbortable } from "../../lib/async/abort.ts";
import { callDocker, dockerMessage, dockerStatus } from "./call-docker.ts";
import { demultiplex } from "./demultiplex.ts";
import type { DockerContext } from "./docker-context.ts";
import { killProbeProcesses } from "./probe-processes.ts";

const outputBytesMax = 1_024;
const setupTimeoutMs = 10_000;
const setup = { phase: "health" as const, timeoutMs: setupTimeoutMs };

interface ProbedContainer {
  setId: string;
  dockerId: string;
}

/**
 * Runs the check's command in the container, and retains the first KiB of its output for the
 * detail. A command that is late or aborted leaves no process.
 */
export async function probeByExec(
  context: DockerContext,
  container: ProbedContainer,
  health: HealthCheck,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const timeoutMs = health.timeoutSeconds * 1_000;
  const command = health.exec?.command ?? [];
  try {
    const exec = await callDocker(setup, signal, (abortSignal) =>
      context.docker.getContainer(container.dockerId).exec({
        Cmd: command,
        AttachStdout: true,
        AttachStderr: true,
        abortSignal,
      }),
    );
    const output = await runExec(context, container, { exec, timeoutMs }, signal);
    const state = await callDocker(setup, signal, () => exec.inspect());
    if (output === undefined) {
      await killProcesses(context, container, state.Pid);
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

/** The first KiB of the output; undefined if the command does not end in time. */
async function runExec(
  context: DockerContext,
  container: ProbedContainer,
  { exec, timeoutMs }: { exec: Docker.Exec; timeoutMs: number },
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const stream = await callDocker(setup, signal, () => exec.start({ Detach: false, Tty: false }));
    return await readOutput(stream, timeoutMs, signal);
  } catch (error) {
    // The command may run on without a reader. This must not wait for `signal`, which is aborted.
    await killAborted(context, container, exec).catch((killError: unknown) => {
      context.log.warn({ err: killError, setId: container.setId }, "cannot end a health check");
    });
    throw error;
  }
}

async function killAborted(
  context: DockerContext,
  container: ProbedContainer,
  exec: Docker.Exec,
): Promise<void> {
  const { signal } = new AbortController();
  const state = await callDocker(setup, signal, () => exec.inspect());
  await killProcesses(context, container, state.Pid);
}

async function killProcesses(
  context: DockerContext,
  { setId, dockerId }: ProbedContainer,
  leader: number,
): Promise<void> {
  const { cgroups } = await context.environment();
  await killProbeProcesses(leader, () => cgroups.listProcesses(setId, dockerId));
}

/** The first KiB of the output; undefined if the stream does not end in time. */
async function readOutput(
  stream: NodeJS.ReadableStream & { destroy(): unknown },
  timeoutMs: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const deadline = { timeoutMs, onLate: () => undefined };
  return runAbortable<string | undefined>({ signal, deadline }, async (readSignal) => {
    const stopClosing = onAbort(readSignal, () => stream.destroy());
    const retained: Uint8Array[] = [];
    let bytes = 0;
    try {
      for await (const chunk of demultiplex(stream)) {
        if (bytes < outputBytesMax) retained.push(chunk.subarray(0, outputBytesMax - bytes));
        bytes += chunk.length;
      }
    } finally {
      stopClosing();
    }
    return Buffer.concat(retained).toString().trim();
  });
}
