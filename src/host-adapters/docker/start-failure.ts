import type Docker from "dockerode";
import { callDocker } from "./call-docker.ts";
import { demultiplex } from "./demultiplex.ts";
import type { InspectAnswer } from "./docker-answers.ts";

const logsTimeoutMs = 10_000;
const logBytesMax = 4_096;
/** Docker's init exits with these codes if it cannot execute the command. */
const failureCodes = [1, 126, 127];
/** A failed start ends within milliseconds, and a busy machine needs longer. */
const failureMsMax = 10_000;
const initMessage = /^\[FATAL tini \(\d+\)\] (exec .+ failed: .+)$/m;

/**
 * The reason why Docker's init could not execute the command of an exited container; undefined if
 * it could, or if the log cannot be read. With an init Docker itself reports only that the
 * container exited, so the message is in the log. A damaged log must not make the set unseen, so
 * only the abort of `signal` rejects.
 */
export async function readStartFailure(
  docker: Docker,
  { Id: dockerId, State: state, HostConfig }: InspectAnswer,
  signal: AbortSignal,
): Promise<string | undefined> {
  const ranMs = Date.parse(state.FinishedAt) - Date.parse(state.StartedAt);
  const mayHaveFailed =
    HostConfig.Init === true &&
    state.Status === "exited" &&
    failureCodes.includes(state.ExitCode) &&
    ranMs < failureMsMax;
  if (!mayHaveFailed) return undefined;
  try {
    return initMessage.exec(await readLogTail(docker, dockerId, signal))?.[1];
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

async function readLogTail(docker: Docker, dockerId: string, signal: AbortSignal): Promise<string> {
  const call = { phase: "observe" as const, timeoutMs: logsTimeoutMs };
  return callDocker(call, signal, async (abortSignal) => {
    const output = await docker
      .getContainer(dockerId)
      .logs({ follow: true, stdout: false, stderr: true, tail: 1, abortSignal });
    let tail = "";
    for await (const chunk of demultiplex(output)) {
      tail = (tail + Buffer.from(chunk).toString()).slice(-logBytesMax);
    }
    return tail;
  });
}
