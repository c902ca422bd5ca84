import type { ContainerTemplate } from "../../contracts/api/set-template.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";
import { truncate } from "../../lib/text/truncate.ts";
import type { ObservedContainer } from "../model/local-set.ts";
import type { ContainerRun } from "./container-run.ts";

/** The reasons that the agent gives for the state of a container. */

export function exitReason(seen: ObservedContainer): Reason {
  const { name } = seen;
  const code = seen.exitCode === undefined ? "an unknown code" : `code ${seen.exitCode}`;
  const why = seen.oomKilled ? ` (out of memory${memoryUsageText(seen)})` : "";
  const failure = seen.startFailure;
  return {
    ...(failure === undefined
      ? {
          code: seen.oomKilled ? "out-of-memory" : "container-exited",
          text: `"${name}" exited with ${code}${why}`,
        }
      : { code: "start-failed", text: truncate(`"${name}" cannot be started: ${failure}`, 2_000) }),
    phase: "run",
    ...(seen.finishedAt === undefined ? {} : { at: new Date(seen.finishedAt).toISOString() }),
  };
}

export function unhealthyReason(name: string, run: Readonly<ContainerRun>): Reason {
  const detail = run.probes.detail ?? "no probe has succeeded yet";
  return {
    code: "not-healthy",
    text: truncate(`"${name}" is not healthy: ${detail}`, 2_000),
    phase: "health",
  };
}

export function pullingReason({ name, image }: ContainerTemplate): Reason {
  const text = `"${name}" waits for its image ${image}, which this host pulls.`;
  return { code: "image-pulling", text: truncate(text, 2_000), phase: "image" };
}

export function unseenReason(name: string): Reason {
  const text = `Docker lists "${name}" but does not answer an inspect of it, so its state is unknown. The agent retries. If this lasts, ask the operator to restart Docker on the host.`;
  return { code: "container-state-unknown", text, phase: "observe" };
}

/** `oomKills`: kills in all runs of the container. */
export function outOfMemoryReason(
  seen: ObservedContainer,
  { oomKills, wallMs }: { oomKills: number; wallMs: number },
): Reason {
  const times = oomKills === 1 ? "" : `, ${oomKills} times so far`;
  return {
    code: "out-of-memory",
    text: `"${seen.name}" ran out of memory and the kernel killed one of its processes${times}${memoryUsageText(seen)}`,
    phase: "run",
    at: new Date(wallMs).toISOString(),
  };
}

/** Memory usage and limit of a container, as part of a sentence. */
function memoryUsageText({ limits, memoryPeakBytes }: ObservedContainer): string {
  if (!limits || !Number.isFinite(limits.memoryBytes)) return "";
  const peak =
    memoryPeakBytes === undefined ? "" : `peak memory ${describeBytes(memoryPeakBytes)}, `;
  return `; ${peak}limit ${describeBytes(limits.memoryBytes)}`;
}
