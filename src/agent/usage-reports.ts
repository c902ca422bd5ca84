import type { Sync } from "../contracts/agent.ts";
import type { Log } from "../lib/log.ts";
import type { Clock } from "./clock.ts";
import type { MachinePort } from "./ports/machine-port.ts";
import type { SetPort } from "./ports/set-port.ts";

export interface UsageReportsOptions {
  machine: MachinePort;
  port: Pick<SetPort, "memoryUse">;
  clock: Clock;
  log: Log;
  intervalMs: number;
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
    const { machine, port, clock, log, intervalMs } = this.#options;
    if (this.dueInMs > soonMs) return null;
    this.#dueAtMs = clock.nowMs() + intervalMs;
    try {
      const [usage, setMemoryBytes] = await Promise.all([machine.measure(), port.memoryUse()]);
      return { ...usage, setMemoryBytes };
    } catch (error) {
      log.error({ err: error }, "machine not measured");
      return null;
    }
  }

  /** What was taken did not arrive. */
  repeat(): void {
    this.#dueAtMs = Number.NEGATIVE_INFINITY;
  }
}
