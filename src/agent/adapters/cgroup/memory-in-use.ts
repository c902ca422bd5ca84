import { AgentError } from "../../agent-error.ts";
import { type CgroupPlace, readHeldMemory } from "./read-cgroup.ts";

/** Processes hold more memory than they are to have: they keep their limit until they hold less. */
export function memoryInUse(
  what: string,
  { usedBytes, wantedBytes }: { usedBytes: number | undefined; wantedBytes: number },
  cause?: unknown,
): AgentError {
  return new AgentError(
    "memory-in-use",
    `${what} uses ${usedBytes ?? "more"} bytes of memory, and is to have ${wantedBytes}: its limit stays as it is until it uses less`,
    { phase: "resize", temporary: true, cause },
  );
}

/**
 * Throws memory-in-use for where nobody else refuses a limit below what is used: the kernel's version 2 takes any, and kills
 * until it is kept; systemd keeps a refusal of version 1 to itself.
 */
export function checkMemory(place: CgroupPlace, what: string, wantedBytes: number): void {
  if (isMemoryHeld(place, wantedBytes))
    throw memoryInUse(what, { usedBytes: readHeldMemory(place), wantedBytes });
}

export function isMemoryHeld(place: CgroupPlace, bytes: number): boolean {
  return (readHeldMemory(place) ?? 0) > bytes;
}
