import type { Sync } from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import type { Clock } from "./clock.ts";
import type { DiskUse } from "./ports/disk-port.ts";
import type { MachinePort } from "./ports/machine-port.ts";
import type { SetPort } from "./ports/set-port.ts";
import { reportableMemory } from "./reportable.ts";

export interface UsageReportsOptions {
  machine: MachinePort;
  port: Pick<SetPort, "memoryUse">;
  /** As it was looked at last. */
  disk: () => DiskUse | undefined;
  clock: Clock;
  log: Log;
  intervalMs: number;
  /** What was taken is to be said again. */
  onRepeat: () => void;
}

/** When to say what the machine uses, and what it is. */
export class UsageReports {
  readonly #options: UsageReportsOptions;
  #dueAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: UsageReportsOptions) {
    this.#options = options;
  }

  /** Zero or less: now. */
  get dueInMs(): number {
    return this.#dueAtMs - this.#options.clock.nowMs();
  }

  /** What the machine uses, when that is to be said within `soonMs`; null otherwise, or when it cannot be measured. */
  async takeIfDue(soonMs = 0): Promise<Sync["usage"]> {
    const { machine, port, disk, clock, log, intervalMs } = this.#options;
    if (this.dueInMs > soonMs) return null;
    this.#dueAtMs = clock.nowMs() + intervalMs;
    try {
      const [usage, memory] = await Promise.all([machine.measure(), port.memoryUse()]);
      const use = disk();
      const ofDisk = use && { imageBytes: use.imageBytes, containerBytes: use.containerBytes };
      return { ...usage, setMemoryBytes: reportableMemory(memory), disk: ofDisk ?? null };
    } catch (error) {
      log.error({ err: error }, "machine not measured");
      return null;
    }
  }

  /** To be said anew, at once: what was taken did not arrive, or what sets may use has changed. */
  repeat(): void {
    this.#dueAtMs = Number.NEGATIVE_INFINITY;
    this.#options.onRepeat();
  }
}
