import { AgentError } from "../../agent/base/agent-error.ts";

/** The kernel refused a limit. */
export function cgroupFailed(cause: unknown): AgentError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new AgentError("cgroup-failed", `the set's limits cannot be applied: ${detail}`, {
    phase: "prepare",
    temporary: true,
    cause,
  });
}
