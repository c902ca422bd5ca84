import { AgentError } from "../../agent-error.ts";
import type { LocalSetSpec } from "../../ports/set-port.ts";
import { callDocker, dockerStatus } from "./call-docker.ts";
import { infraReadyLine } from "./container-specs.ts";
import { demultiplex } from "./container-logs.ts";
import type { DockerContext } from "./docker-context.ts";

const startTimeoutMs = 60_000;
const sysctlTimeoutMs = 10_000;

/**
 * Starts the infra container, unless it runs, and waits until it has applied the set's sysctls.
 * Business containers may read them at their start. Without sysctls it does not wait.
 */
export async function startInfra(
  context: DockerContext,
  set: LocalSetSpec,
  { infraId, isRunning }: { infraId: string; isRunning: boolean },
  signal: AbortSignal,
): Promise<void> {
  const container = context.docker.getContainer(infraId);
  if (!isRunning) {
    await context.startLimit(set.tenant, () =>
      callDocker({ phase: "prepare", timeoutMs: startTimeoutMs }, signal, (abortSignal) =>
        container.start({ abortSignal }),
      ).catch((error: unknown) => {
        if (dockerStatus(error) !== 304) throw error;
      }),
    );
  }
  if (Object.keys(set.template.sysctls).length === 0) return;
  await waitForSysctls(context, infraId, signal);
}

/**
 * Follows the output of the infra container's current run until it prints that it is up, or exits.
 */
async function waitForSysctls(
  { docker }: DockerContext,
  infraId: string,
  signal: AbortSignal,
): Promise<void> {
  const printed = await callDocker(
    { phase: "prepare", timeoutMs: sysctlTimeoutMs },
    signal,
    async (abortSignal) => {
      const container = docker.getContainer(infraId);
      const { State: state } = await container.inspect({ abortSignal });
      const output = await container.logs({
        follow: true,
        stdout: true,
        stderr: true,
        since: runStartedAtSeconds(state),
        abortSignal,
      });
      let text = "";
      for await (const chunk of demultiplex(output)) {
        text = (text + Buffer.from(chunk).toString()).slice(-1_000);
        if (text.split("\n").includes(infraReadyLine)) break;
      }
      return text;
    },
  );
  if (printed.split("\n").includes(infraReadyLine)) return;
  throw new AgentError("sysctl-refused", `the set's sysctls cannot be applied: ${printed.trim()}`, {
    phase: "prepare",
    temporary: false,
  });
}

/**
 * Time at which the output of the current run starts: after the exit of the previous run. Docker
 * records the start time only after the first lines may have appeared, so it is not a usable bound.
 */
function runStartedAtSeconds(state: {
  Running: boolean;
  StartedAt: string;
  FinishedAt: string;
}): number {
  const atMs = state.Running ? Date.parse(state.FinishedAt) : Date.parse(state.StartedAt) - 1_000;
  return Math.max(0, atMs / 1_000);
}
