import { AgentError } from "../../agent-error.ts";
import { type CgroupPlace, readHeldMemory } from "./read-cgroup.ts";

/** Processes hold more memory than the new limit, so the old limit stays. */
export function memoryInUse(
  what: string,
  { usedBytes, wantedBytes }: { usedBytes: number | undefined; wantedBytes: number },
  cause?: unknown,
): AgentError {
  return new AgentError(
    "memory-in-use",
    `${what} uses ${usedBytes ?? "more than " + wantedBytes} bytes of memory, more than its new limit of ${wantedBytes}. The old limit stays until it uses less.`,
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
