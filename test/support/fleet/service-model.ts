import type { DisruptionBudget } from "../../../src/contracts/api/disruption-budget.ts";
import type { UpdateMethod } from "../../../src/contracts/api/rollouts.ts";
import type { ReplicaCounts } from "../../../src/scheduler/rollout/may-disrupt.ts";
import type { TemplateDiff } from "../../../src/scheduler/rollout/compare-templates.ts";

/** How the containers of a revision behave on a ready host. */
export type Behavior =
  | { kind: "ready"; afterMs: number }
  | { kind: "never-ready" | "crash-loop" | "gives-up" }
  | { kind: "ready-then-unready"; afterMs: number; forMs: number };

export interface ModelOptions {
  replicas: number;
  hosts: number;
  zones: number;
  budget: DisruptionBudget;
  behaviors: Readonly<Record<number, Behavior>>;
  diff: TemplateDiff;
  hasVolume: boolean;
  /** Time for which a host pulls the images. Infinity: the pull fails permanently. */
  pullMs: number;
}

export interface ModelHost {
  id: string;
  zone: string;
  isReady: boolean;
  readySinceMs: number;
  lostAtMs: number;
  /** When it began to pull the images of a revision. */
  pulls: Map<number, number>;
}

export interface ModelSet {
  id: string;
  createdAtMs: number;
  revision: number;
  host: ModelHost;
  placedAtMs: number;
  /** When its containers of this revision started. Undefined while the host is lost. */
  startedAtMs: number;
  /** All its containers are up. */
  isReady: boolean;
  readySinceMs: number | undefined;
  /** Since when it serves although optional containers are not up. */
  servesSinceMs: number | undefined;
  unreadySinceMs: number | undefined;
  wasReady: boolean;
  gaveUp: boolean;
  restarts: number;
  isStopped: boolean;
  operation: ModelOperation | undefined;
  /** The set that it replaces, until it takes its place. */
  replaces: ModelSet | undefined;
}

export interface ModelOperation {
  phase: "waiting" | "replacing" | "updating";
  toRevision: number;
  method: UpdateMethod;
  replacement: ModelSet | undefined;
}

const GRACE_MS = 20_000;

/**
 * A small model of one service. Its hosts vanish and return, and its sets become ready or crash.
 * Time is virtual and moves by `advance`.
 */
export abstract class ServiceModel {
  readonly options: ModelOptions;
  readonly hosts: ModelHost[];
  sets: ModelSet[] = [];
  desired: number;
  nowMs = 1_000_000;
  #setCount = 0;

  constructor(options: ModelOptions) {
    this.options = options;
    this.desired = options.replicas;
    this.hosts = Array.from({ length: options.hosts }, (_, position) => ({
      id: `host_${position}`,
      zone: `zone_${position % options.zones}`,
      isReady: true,
      readySinceMs: 0,
      lostAtMs: 0,
      pulls: new Map(),
    }));
    for (let count = 0; count < options.replicas; count++) this.addSet(1);
    this.advance(60_000);
  }

  /** The revisions of new sets. */
  protected abstract chooseRevisions(count: number): number[];

  /** Replicas: sets that are not replacements. */
  get replicas(): ModelSet[] {
    return this.sets.filter(({ replaces }) => replaces === undefined);
  }

  count(): ReplicaCounts {
    const { replicas } = this;
    return {
      desired: Math.min(this.desired, replicas.length),
      live: replicas.length,
      available: replicas.filter((set) => this.isAvailable(set)).length,
      notExpected: replicas.filter((set) => set.isStopped || !(set.wasReady || set.isReady)).length,
      surging: this.sets.length - replicas.length,
    };
  }

  isAvailable(set: ModelSet): boolean {
    const limitMs = this.nowMs - this.options.budget.minReadySeconds * 1_000;
    return !set.isStopped && (set.servesSinceMs ?? set.readySinceMs ?? Infinity) <= limitMs;
  }

  /** Virtual time passes: containers start, hosts report, and lost sets get replacements. */
  advance(ms: number): void {
    this.nowMs += ms;
    for (const set of this.sets) this.#run(set);
    for (const set of this.sets) this.#failOver(set);
  }

  loseHost(host: ModelHost): void {
    host.isReady = false;
    host.lostAtMs = this.nowMs;
    for (const set of this.sets) if (set.host === host) this.becomeUnready(set, undefined);
  }

  returnHost(host: ModelHost): void {
    if (host.isReady) return;
    host.isReady = true;
    host.readySinceMs = this.nowMs;
    for (const set of this.sets) if (set.host === host) set.startedAtMs = this.nowMs;
  }

  crash(set: ModelSet): void {
    this.becomeUnready(set, undefined);
    set.startedAtMs = this.nowMs;
  }

  /** A user stops a set, which cancels its waiting operation, or starts it again. */
  toggleStop(set: ModelSet): void {
    set.isStopped = !set.isStopped;
    set.startedAtMs = this.nowMs;
    this.becomeUnready(set, undefined);
    if (set.operation?.phase === "waiting") set.operation = undefined;
  }

  /** On the ready host with the fewest sets. */
  protected addSet(revision: number, replaces?: ModelSet): ModelSet {
    const sizeOf = (host: ModelHost) => this.sets.filter((set) => set.host === host).length;
    const ready = this.hosts.filter(({ isReady }) => isReady);
    const [host] = (ready.length > 0 ? ready : this.hosts).toSorted(
      (a, b) => sizeOf(a) - sizeOf(b),
    );
    if (!host) throw new Error("a model has hosts");
    const set: ModelSet = {
      id: `set_${String(this.#setCount++).padStart(4, "0")}`,
      createdAtMs: this.nowMs,
      revision,
      host,
      placedAtMs: this.nowMs,
      startedAtMs: this.nowMs,
      isReady: false,
      readySinceMs: undefined,
      servesSinceMs: undefined,
      unreadySinceMs: undefined,
      wasReady: false,
      gaveUp: false,
      restarts: 0,
      isStopped: false,
      operation: undefined,
      replaces,
    };
    this.sets.push(set);
    return set;
  }

  #run(set: ModelSet): void {
    if (!set.host.isReady || set.isStopped) return;
    const behavior = this.options.behaviors[set.revision] ?? { kind: "ready", afterMs: 3_000 };
    const runsMs = this.nowMs - set.startedAtMs;
    switch (behavior.kind) {
      case "ready":
        if (runsMs >= behavior.afterMs) this.#becomeReady(set);
        return;
      case "never-ready":
        return;
      case "gives-up":
        set.gaveUp = runsMs > 5_000;
        return;
      case "crash-loop":
        set.restarts = Math.max(set.restarts, Math.floor(runsMs / 5_000));
        return;
      case "ready-then-unready":
        if (runsMs >= behavior.afterMs + behavior.forMs) this.becomeUnready(set, set.servesSinceMs);
        else if (runsMs >= behavior.afterMs) this.#becomeReady(set);
        return;
    }
  }

  #becomeReady(set: ModelSet): void {
    if (set.isReady) return;
    Object.assign(set, { isReady: true, wasReady: true, readySinceMs: this.nowMs });
    set.unreadySinceMs = undefined;
  }

  protected becomeUnready(set: ModelSet, servesSinceMs: number | undefined): void {
    set.servesSinceMs = servesSinceMs;
    if (!set.isReady) return;
    Object.assign(set, { isReady: false, readySinceMs: undefined, unreadySinceMs: this.nowMs });
  }

  /** A set on a lost host gets a replacement after the grace time; one with a volume waits. */
  #failOver(set: ModelSet): void {
    if (set.host.isReady || this.options.hasVolume) return;
    if (this.nowMs - set.host.lostAtMs < GRACE_MS || !this.sets.includes(set)) return;
    const isReplica = set.replaces === undefined;
    const replacement = set.operation?.replacement;
    this.sets = this.sets.filter((other) => other !== set);
    set.operation = undefined;
    if (replacement) replacement.replaces = undefined;
    if (!isReplica || replacement || this.replicas.length >= this.desired) return;
    for (const revision of this.chooseRevisions(1)) this.addSet(revision);
  }
}
