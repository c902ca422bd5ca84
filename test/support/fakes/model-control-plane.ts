import type {
  DesiredSet,
  ObservedSet,
  Sync,
  SyncResult,
} from "../../../src/contracts/agent-protocol/protocol.ts";
import { syncBody, syncResultSchema } from "../../../src/contracts/agent-protocol/protocol.ts";
import type { Clock } from "../../../src/agent/clock.ts";
import { delay } from "../../../src/agent/clock.ts";
import {
  type ControlPlane,
  ControlPlaneError,
  CredentialRefusedError,
} from "../../../src/agent/ports/control-plane.ts";

interface Booking {
  desired: DesiredSet;
  hostGeneration: number;
}

export interface ControlPlaneFaults {
  /** Shares of calls that fail before they arrive, that fail at once and arrive later, and that arrive twice, */
  down: number;
  ghost: number;
  twice: number;
  /** and of answers that are lost, and that come late. */
  lost: number;
  late: number;
}

const lateMsMax = 20_000;
export const noFaults: ControlPlaneFaults = { down: 0, ghost: 0, twice: 0, lost: 0, late: 0 };

/**
 * One host's part of the control plane, in memory, by the same rules as the real one (control/hosts/sync-host.ts,
 * control/hosts/apply-observed.ts): generations, bookings that end when a set is reported absent, sets that are given up leave.
 */
export class ModelControlPlane implements ControlPlane {
  faults: ControlPlaneFaults = noFaults;
  /** The host is not enrolled any more. */
  refuses = false;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #bookings = new Map<string, Booking>();
  /** Outlive the bookings, as a set's generation does. */
  readonly #generations = new Map<string, number>();
  readonly #reported = new Map<string, ObservedSet>();
  readonly #waiting = new Set<() => void>();
  #hostGeneration = 0;
  /** Sets that were at some time to be deleted, or were forgotten. */
  readonly ended = new Set<string>();
  syncs = 0;
  fullSyncs = 0;
  acceptedGeneration = 0;
  /** All that was received, oldest first. */
  readonly received: Sync[] = [];

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  get hostGeneration(): number {
    return this.#hostGeneration;
  }

  /** What is booked on the host, as it should be. */
  list(): DesiredSet[] {
    return [...this.#bookings.values()].map(({ desired }) => desired);
  }

  desiredOf(setId: string): DesiredSet | undefined {
    return this.#bookings.get(setId)?.desired;
  }

  reportOf(setId: string): ObservedSet | undefined {
    return this.#reported.get(setId);
  }

  /** Books a set or changes what it should be; its generation is raised when it is booked already. */
  want(set: Omit<DesiredSet, "generation">): DesiredSet {
    this.#hostGeneration++;
    const generation = (this.#generations.get(set.setId) ?? 0) + 1;
    this.#generations.set(set.setId, generation);
    const desired = { ...set, generation };
    if (desired.desired === "deleted") this.ended.add(set.setId);
    this.#bookings.set(set.setId, { desired, hostGeneration: this.#hostGeneration });
    for (const wake of this.#waiting) wake();
    return desired;
  }

  /** As after a restore of an old backup. */
  goBackTo(hostGeneration: number): void {
    this.#hostGeneration = hostGeneration;
    this.#bookings.clear();
  }

  /** Forgets a booking without having heard that its set is gone: a full answer does not name it any more. */
  drop(setId: string): void {
    this.ended.add(setId);
    this.#bookings.delete(setId);
    this.#reported.delete(setId);
  }

  async sync(body: Sync, signal: AbortSignal): Promise<SyncResult> {
    signal.throwIfAborted();
    syncBody.parse(body);
    if (this.refuses) throw new CredentialRefusedError("unknown credential");
    if (this.#happens("down")) throw new ControlPlaneError("down", {});
    if (this.#happens("ghost")) {
      this.#clock.after(this.#random() * lateMsMax, () => this.#receive(body));
      throw new ControlPlaneError("ghost", {});
    }
    this.#receive(body);
    if (this.#happens("twice")) this.#receive(body);
    let answer = this.#answer(body);
    if (body.waitMs > 0 && !answer.full && answer.sets.length === 0) {
      await this.#news(body.waitMs, signal);
      answer = this.#answer(body);
    }
    const text = JSON.stringify(answer);
    if (this.#happens("late")) await delay(this.#clock, this.#random() * lateMsMax, signal);
    signal.throwIfAborted();
    if (this.#happens("lost")) throw new ControlPlaneError("lost", {});
    return syncResultSchema.parse(JSON.parse(text));
  }

  async uploadStream(): Promise<void> {
    // nobody asks this one for logs
  }

  #happens(fault: keyof ControlPlaneFaults): boolean {
    return this.faults[fault] > 0 && this.#random() < this.faults[fault];
  }

  #news(waitMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        cancel();
        this.#waiting.delete(end);
        signal.removeEventListener("abort", end);
        resolve();
      };
      const cancel = this.#clock.after(waitMs, end);
      this.#waiting.add(end);
      signal.addEventListener("abort", end, { once: true });
    });
  }

  #receive(body: Sync): void {
    this.syncs++;
    this.received.push(body);
    if (body.full) this.fullSyncs++;
    this.acceptedGeneration = body.acceptedGeneration;
    for (const report of body.observed) {
      const booking = this.#bookings.get(report.setId);
      if (!booking || report.generation < booking.desired.generation) continue;
      if (report.state === "absent") {
        if (booking.desired.desired === "deleted") this.drop(report.setId);
        continue;
      }
      this.#reported.set(report.setId, report);
      if (report.gaveUp && booking.desired.desired === "running") {
        this.want({ ...booking.desired, desired: "deleted" });
      }
    }
  }

  #answer(body: Sync): SyncResult {
    const hostGeneration = this.#hostGeneration;
    const after = body.full ? -1 : body.acceptedGeneration;
    return {
      hostGeneration,
      full: body.full,
      sets: [...this.#bookings.values()]
        .filter((booking) => booking.hostGeneration > after)
        .map(({ desired }) => desired),
      streams: [],
      purgeVolumes: [],
      reportAgain: [],
      leaseSeconds: 45,
      serverTime: new Date(this.#clock.nowMs()).toISOString(),
    };
  }
}
