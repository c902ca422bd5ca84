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
 * only the abort of `signal` rejects. `isRead` is false if a later read may find the reason.
 */
export async function readStartFailure(
  docker: Docker,
  { Id: dockerId, State: state, HostConfig }: InspectAnswer,
  signal: AbortSignal,
): Promise<{ reason: string | undefined; isRead: boolean }> {
  const ranMs = Date.parse(state.FinishedAt) - Date.parse(state.StartedAt);
  const mayHaveFailed =
    HostConfig.Init === true &&
    state.Status === "exited" &&
    failureCodes.includes(state.ExitCode) &&
    ranMs < failureMsMax;
  if (!mayHaveFailed) return { reason: undefined, isRead: true };
  try {
    const tail = await readLogTail(docker, dockerId, signal);
    return { reason: initMessage.exec(tail)?.[1], isRead: true };
  } catch {
    signal.throwIfAborted();
    return { reason: undefined, isRead: false };
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
