import { memoryInUse } from "../../agent/model/memory-in-use.ts";
import { type CgroupPlace, readHeldMemory } from "./read-cgroup.ts";

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
