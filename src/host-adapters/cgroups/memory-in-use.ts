import { AgentError } from "../../agent/base/agent-error.ts";
import { type CgroupPlace, readHeldMemory } from "./read-cgroup.ts";
import { describeBytes } from "../../lib/text/describe-bytes.ts";

/** Processes hold more memory than the new limit, so the old limit stays. */
export function memoryInUse(
  what: string,
  { usedBytes, wantedBytes }: { usedBytes: number | undefined; wantedBytes: number },
  cause?: unknown,
): AgentError {
  const usage =
    usedBytes === undefined ? "more memory" : `${describeBytes(usedBytes)} of memory, more`;
  return new AgentError(
    "memory-in-use",
    `${what} uses ${usage} than its new limit of ${describeBytes(wantedBytes)}. The old limit stays until it uses less.`,
    { phase: "resize", temporary: true, cause },
  );
}

/**
 * Throws memory-in-use if the kernel would not refuse the limit. Version 2 accepts any limit and
 * kills processes until they fit. systemd does not report a refusal of version 1.
 */
export function checkMemory(place: CgroupPlace, what: string, wantedBytes: number): void {
  if (isMemoryHeld(place, wantedBytes))
    throw memoryInUse(what, { usedBytes: readHeldMemory(place), wantedBytes });
}

export function isMemoryHeld(place: CgroupPlace, bytes: number): boolean {
  return (readHeldMemory(place) ?? 0) > bytes;
}
