import type { ContainerStatus } from "../../../src/contracts/api/sets.ts";

/** The status of the container "app", as the agent of its host reports it. */
export function runningContainer(some: Partial<ContainerStatus> = {}): ContainerStatus {
  return {
    name: "app",
    state: "running",
    ready: true,
    dockerId: "4f5e6d".padEnd(64, "0"),
    restarts: 0,
    oomKills: 0,
    rootfsUsedBytes: null,
    exitCode: null,
    startedAt: null,
    reason: null,
    ...some,
  };
}
