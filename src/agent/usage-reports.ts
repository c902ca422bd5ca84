import type { Sync } from "../contracts/agent.ts";
import type { Log } from "../lib/log.ts";
import type { Clock } from "./clock.ts";
import type { MachinePort } from "./ports/machine-port.ts";

/** When to say what the machine uses, and what it is. */
export class UsageReports {
  readonly #options: { machine: MachinePort; clock: Clock; log: Log; intervalMs: number };
  #dueAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: { machine: MachinePort; clock: Clock; log: Log; intervalMs: number }) {
    this.#options = options;
  }

  /** Zero or less: now. */
  get dueInMs(): number {
    return this.#dueAtMs - this.#options.clock.nowMs();
  }

  /** What the machine uses, when that is to be said within `soonMs`; null otherwise, or when it cannot be measured. */
  async takeIfDue(soonMs = 0): Promise<Sync["usage"]> {
    const { machine, clock, log, intervalMs } = this.#options;
    if (this.dueInMs > soonMs) return null;
    this.#dueAtMs = clock.nowMs() + intervalMs;
    try {
      return await machine.measure();
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
