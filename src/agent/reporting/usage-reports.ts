import type { Sync } from "../../contracts/agent-protocol/sync.ts";
import type { Reason, ResourceAmounts } from "../../contracts/common/primitives.ts";
import type { Log } from "../../lib/log.ts";
import type { Clock } from "../base/clock.ts";
import type { DiskUsage } from "../ports/disk-port.ts";
import type { MachinePort } from "../ports/machine-port.ts";
import type { SetPort } from "../ports/set-port.ts";
import { reportableMemory } from "./reportable.ts";

export interface UsageReportsOptions {
  machine: MachinePort;
  port: Pick<SetPort, "memoryUsage">;
  /** The last measurement of the disk. */
  disk: () => DiskUsage | undefined;
  /** Bytes of volumes beyond their bookings. */
  volumeExcessBytes: () => number;
  /** A fault of the network driver, or of the host's wall clock. */
  hostReason: () => Reason | undefined;
  /** A fault of the agent itself, which the host shows like a fault of its volumes. */
  fault: () => Reason | undefined;
  clock: Clock;
  log: Log;
  intervalMs: number;
  /** Called when a usage report must be repeated. */
  onRepeat: () => void;
}

/** Schedules reports of the machine's usage and capacity. */
export class UsageReports {
  readonly #options: UsageReportsOptions;
  #dueAtMs = Number.NEGATIVE_INFINITY;
  #setsMax: number | null = null;

  constructor(options: UsageReportsOptions) {
    this.#options = options;
  }

  /** The number of sets above which no container starts on the machine. Null if unknown. */
  get setsMax(): number | null {
    return this.#setsMax;
  }

  /** Zero or less means now. */
  get dueInMs(): number {
    return this.#dueAtMs - this.#options.clock.nowMs();
  }

  /**
   * Measures the usage if a report is due within `soonMs`. Returns null otherwise, or if the
   * measurement fails.
   */
  async takeIfDue(soonMs = 0): Promise<Sync["usage"]> {
    const { machine, port, disk, hostReason, fault, clock, log, intervalMs } = this.#options;
    if (this.dueInMs > soonMs) return null;
    this.#dueAtMs = clock.nowMs() + intervalMs;
    try {
      const memory = await port.memoryUsage();
      const { setsMax = null, ...usage } = await machine.measure(countSets(memory));
      this.#setsMax = setsMax;
      const excessBytes = this.#options.volumeExcessBytes();
      const measured = disk();
      const ofDisk = measured && {
        imageBytes: measured.imageBytes,
        containerBytes: measured.containerBytes,
      };
      return {
        ...usage,
        used: withoutVolumeBytes(usage.used, excessBytes),
        allocatable: withoutVolumeBytes(usage.allocatable, excessBytes),
        volumeReason: fault() ?? usage.volumeReason ?? hostReason() ?? null,
        setMemoryBytes: reportableMemory(memory),
        disk: ofDisk ?? null,
      };
    } catch (error) {
      log.error({ err: error }, "cannot measure the machine");
      return null;
    }
  }

  /**
   * Schedules an immediate report: the last one did not arrive, or the sets' limits have changed.
   */
  repeat(): void {
    this.#dueAtMs = Number.NEGATIVE_INFINITY;
    this.#options.onRepeat();
  }
}

/** Bytes that no placement can use count neither as used nor as allocatable. */
function withoutVolumeBytes(amounts: ResourceAmounts, bytes: number): ResourceAmounts {
  return { ...amounts, volumeBytes: Math.max(0, amounts.volumeBytes - bytes) };
}

/** The keys are the ids of sets, and the ids of containers in Docker. */
function countSets(memory: Readonly<Record<string, number>>): number {
  return Object.keys(memory).filter((key) => key.startsWith("set_")).length;
}
