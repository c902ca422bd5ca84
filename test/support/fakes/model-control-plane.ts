import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../../src/contracts/agent-protocol/observed-set.ts";
import type { Sync, SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { syncBody, syncResultSchema } from "../../../src/contracts/agent-protocol/sync.ts";
import type { Clock } from "../../../src/agent/base/clock.ts";
import { sleep } from "../../../src/agent/base/clock.ts";
import {
  type ControlPlane,
  ControlPlaneError,
  RefusedError,
} from "../../../src/agent/ports/control-plane.ts";

interface Booking {
  desired: DesiredSet;
  hostGeneration: number;
}

export interface ControlPlaneFaults {
  /** The share of calls that fail before they arrive. */
  down: number;
  /** The share of calls that fail immediately and still arrive later. */
  ghost: number;
  /** The share of calls that arrive twice. */
  twice: number;
  /** The share of answers that never arrive. */
  lost: number;
  /** The share of answers that arrive late. */
  late: number;
}

const lateMsMax = 20_000;
export const noFaults: ControlPlaneFaults = { down: 0, ghost: 0, twice: 0, lost: 0, late: 0 };

/**
 * An in-memory model of the control plane for one host. It follows the rules of
 * control/hosts/sync-host.ts and control/hosts/apply-observed.ts: it raises generations, and a
 * booking ends when the agent reports its set absent.
 */
export class ModelControlPlane implements ControlPlane {
  faults: ControlPlaneFaults = noFaults;
  /** The control plane refuses the host. `provenCode`: the code that it has signed. */
  refusal: { status: number; provenCode: string | undefined } | undefined;
  /** A proxy in front of the control plane answers 413 to longer bodies. */
  bodyCharsMax = Number.POSITIVE_INFINITY;
  /** The number of bodies that were too long. */
  tooLong = 0;
  /** The number of refused syncs. */
  refused = 0;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #bookings = new Map<string, Booking>();
  /** Generations outlive the bookings of their sets. */
  readonly #generations = new Map<string, number>();
  readonly #reported = new Map<string, ObservedSet>();
  readonly #waiting = new Set<() => void>();
  #hostGeneration = 0;
  /** Every set that the model deleted or lost. */
  readonly ended = new Set<string>();
  syncs = 0;
  fullSyncs = 0;
  acceptedGeneration = 0;
  databaseEpoch: string | undefined = "1";
  /** The API is of a release that does not say which unlisted sets it has deleted. */
  isOlder = false;
  /** Every received report, oldest first. */
  readonly received: Sync[] = [];

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  get hostGeneration(): number {
    return this.#hostGeneration;
  }

  /** Lists the desired sets of all bookings. */
  list(): DesiredSet[] {
    return [...this.#bookings.values()].map(({ desired }) => desired);
  }

  desiredOf(setId: string): DesiredSet | undefined {
    return this.#bookings.get(setId)?.desired;
  }

  reportOf(setId: string): ObservedSet | undefined {
    return this.#reported.get(setId);
  }

  /** Books a set or changes its desired state, and raises its generation. */
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

  /** Returns to an older generation without bookings, like a restored backup. */
  goBackTo(hostGeneration: number): void {
    this.#hostGeneration = hostGeneration;
    this.#bookings.clear();
  }

  /** Another database server takes over. It lacks the last reports, and has the same bookings. */
  failOver(databaseEpoch: string): void {
    this.databaseEpoch = databaseEpoch;
    this.#reported.clear();
  }

  /** Forgets a booking before its set is reported absent. Full answers then omit the set. */
  drop(setId: string): void {
    this.ended.add(setId);
    this.#bookings.delete(setId);
    this.#reported.delete(setId);
  }

  /** Loses a booking like a restored backup, which does not know that the set existed. */
  lose(setId: string): void {
    this.#bookings.delete(setId);
    this.#reported.delete(setId);
    this.#hostGeneration++;
  }

  async sync(body: Sync, signal: AbortSignal): Promise<SyncResult> {
    signal.throwIfAborted();
    if (JSON.stringify(body).length > this.bodyCharsMax) {
      this.tooLong++;
      throw new ControlPlaneError("too long", { status: 413 });
    }
    syncBody.parse(body);
    if (this.isOlder && body.unlistedSets) throw new ControlPlaneError("unknown member", {});
    if (this.refusal) {
      this.refused++;
      throw new RefusedError("unknown credential", this.refusal);
    }
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
    if (this.#happens("late")) await sleep(this.#clock, this.#random() * lateMsMax, signal);
    signal.throwIfAborted();
    if (this.#happens("lost")) throw new ControlPlaneError("lost", {});
    return syncResultSchema.parse(JSON.parse(text));
  }

  async uploadStream(): Promise<void> {
    // The model requests no logs.
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
      ...(this.isOlder || !body.full
        ? {}
        : { setsToRemove: (body.unlistedSets ?? []).filter((setId) => this.ended.has(setId)) }),
      streams: [],
      purgeVolumes: [],
      reportAgain: [],
      leaseSeconds: 45,
      databaseEpoch: this.databaseEpoch,
      serverTime: new Date(this.#clock.wallMs()).toISOString(),
    };
  }
}
