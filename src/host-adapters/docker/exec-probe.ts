import type Docker from "dockerode";
import type { ProbeResult } from "../../agent/model/local-set.ts";
import type { ExecCheck } from "../../agent/ports/container-port.ts";
import { onAbort, runAbortable } from "../../lib/async/abort.ts";
import { callDocker, dockerMessage, dockerStatus } from "./call-docker.ts";
import { demultiplex } from "./demultiplex.ts";
import type { DockerContext } from "./docker-context.ts";
import { killProbeProcesses } from "./probe-processes.ts";

const outputBytesMax = 1_024;
const setupTimeoutMs = 10_000;
const setup = { phase: "health" as const, timeoutMs: setupTimeoutMs };

type ProbeContext = Pick<DockerContext, "docker" | "log">;

/** A running command of a check. */
interface ProbeRun {
  setId: string;
  exec: Docker.Exec;
  check: ExecCheck;
}

/** ContainerPort.probe on Docker. It retains the first KiB of the output for the detail. */
export async function probeByExec(
  context: ProbeContext,
  { setId, dockerId }: { setId: string; dockerId: string },
  check: ExecCheck,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { command } = check;
  try {
    const exec = await callDocker(setup, signal, (abortSignal) =>
      context.docker.getContainer(dockerId).exec({
        Cmd: [...command],
        AttachStdout: true,
        AttachStderr: true,
        abortSignal,
      }),
    );
    const output = await runExec(context, { setId, exec, check }, signal);
    const state = await callDocker(setup, signal, () => exec.inspect());
    if (output === undefined) {
      await killProbeProcesses(state.Pid, check.listProcesses);
      const timeoutMs = check.timeoutSeconds * 1_000;
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
  { log }: ProbeContext,
  run: ProbeRun,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { setId, exec, check } = run;
  try {
    const stream = await callDocker(setup, signal, () => exec.start({ Detach: false, Tty: false }));
    return await readOutput(stream, check.timeoutSeconds * 1_000, signal);
  } catch (error) {
    // The command may run on without a reader. This must not wait for `signal`, which is aborted.
    await killAborted(run).catch((killError: unknown) => {
      log.warn({ err: killError, setId }, "cannot end a health check");
    });
    throw error;
  }
}

async function killAborted({ exec, check }: ProbeRun): Promise<void> {
  const { signal } = new AbortController();
  const state = await callDocker(setup, signal, () => exec.inspect());
  await killProbeProcesses(state.Pid, check.listProcesses);
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
