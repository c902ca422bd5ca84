import { AgentError } from "../base/agent-error.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

const code = "memory-in-use";

/** Processes hold more memory than the new limit, so the old limit stays. */
export function memoryInUse(
  what: string,
  { usedBytes, wantedBytes }: { usedBytes: number | undefined; wantedBytes: number },
  cause?: unknown,
): AgentError {
  const usage =
    usedBytes === undefined ? "more memory" : `${describeBytes(usedBytes)} of memory, more`;
  return new AgentError(
    code,
    `${what} uses ${usage} than its new limit of ${describeBytes(wantedBytes)}. The old limit stays until it uses less.`,
    { phase: "resize", temporary: true, cause },
  );
}

export function isMemoryInUse(error: unknown): error is AgentError {
  return error instanceof AgentError && error.code === code;
}
