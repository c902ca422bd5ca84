import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { UnsupportedSet } from "../../contracts/agent-protocol/read-desired-sets.ts";
import type { AcceptedAnswer } from "./desired-sets.ts";
import { SetRunner } from "./set-runner.ts";
import type { SetRunnerContext } from "./set-runner-context.ts";

/** The sets of a host with their runners: desired sets and found sets. */
export class SetRunners {
  readonly #context: SetRunnerContext;
  /** Desired sets that are persisted, so that the agent may act on them. */
  readonly #desired: Map<string, DesiredSet>;
  /** Newer orders for sets that this agent cannot read. */
  readonly #unsupported: Map<string, UnsupportedSet>;
  readonly #runners = new Map<string, SetRunner>();
  #hasResynced = false;
  #mayStartSets = false;
  #isFenced = false;
  /** Sets that the control plane has deleted. They may still exist here. */
  readonly #deleted = new Set<string>();
  /** Unlisted sets that the control plane does not know, so it has not deleted them. */
  #confirmed: ReadonlySet<string> = new Set();
  /** An older API means by its complete answers that it has deleted all other sets. */
  #isUnlistedDeleted = false;

  /** `desired` has the sets that the previous agent accepted. */
  constructor(
    context: Omit<SetRunnerContext, "onObsolete" | "canRemove" | "mayStart" | "isFenced">,
    desired: readonly DesiredSet[],
    unsupported: readonly UnsupportedSet[],
  ) {
    this.#unsupported = new Map(unsupported.map((set) => [set.setId, set]));
    this.#desired = new Map(desired.map((set) => [set.setId, set]));
    this.#context = {
      ...context,
      mayStart: (setId) =>
        this.#mayStartSets && (context.isListed(setId) || this.#confirmed.has(setId)),
      canRemove: (setId) => this.#isUnlistedDeleted || this.#deleted.has(setId),
      isFenced: () => this.#isFenced,
      onObsolete: (setId) => {
        this.#runners.delete(setId);
        this.#deleted.delete(setId);
      },
    };
  }

  get size(): number {
    return this.#runners.size;
  }

  /** The ids of all sets that exist on this host or are desired. */
  ids(): Iterable<string> {
    return this.#runners.keys();
  }

  /**
   * Applies new, changed and dropped sets. The agent does not touch a set that it found and that no
   * answer lists, unless an answer says that it is deleted (I12, I17).
   */
  apply({
    changed,
    unsupported,
    dropped,
    isComplete,
    deleted,
  }: Omit<AcceptedAnswer, "kind">): void {
    for (const set of changed) {
      // No resync has shown the set, so a new set needs no observation.
      const isAbsent = this.#hasResynced && set.desired === "running";
      this.#desired.set(set.setId, set);
      this.#unsupported.delete(set.setId);
      this.#deleted.delete(set.setId);
      this.#runnerOf(set.setId, isAbsent).setDesired(set);
    }
    for (const set of unsupported) {
      if ((this.#desired.get(set.setId)?.generation ?? -1) >= set.generation) continue;
      this.#unsupported.set(set.setId, set);
      this.#deleted.delete(set.setId);
      this.#runnerOf(set.setId, false).setDesired(this.#desired.get(set.setId), set);
    }
    for (const setId of dropped) {
      this.#desired.delete(setId);
      this.#unsupported.delete(setId);
      this.#deleted.add(setId);
      this.#runners.get(setId)?.setDesired(undefined);
    }
    if (!isComplete) return;
    this.#isUnlistedDeleted = deleted === "unlisted";
    if (deleted !== "unlisted") for (const setId of deleted) this.#deleted.add(setId);
    for (const [setId, runner] of this.#runners) {
      const isKnown = this.#desired.has(setId) || this.#unsupported.has(setId);
      if (!isKnown && this.#context.canRemove(setId)) runner.setDesired(undefined);
    }
  }

  /** Ends the startup hold: the control plane answered, or the hold timed out. */
  allowStarts(): void {
    if (this.#mayStartSets) return;
    this.#mayStartSets = true;
    for (const runner of this.#runners.values()) runner.wake();
  }

  /**
   * Lets the unlisted sets run that the last sync has reported, and that its answer did not delete.
   */
  confirmUnlisted(setIds: readonly string[]): void {
    this.#confirmed = new Set(setIds);
    for (const setId of setIds) this.#runners.get(setId)?.wake();
  }

  /** Stops all sets, because the host was deleted. Nothing is removed. */
  fence(): void {
    this.#isFenced = true;
    for (const runner of this.#runners.values()) runner.onFenced();
  }

  /** Lets the sets run again as the control plane desires. */
  liftFence(): void {
    this.#isFenced = false;
    for (const runner of this.#runners.values()) runner.wake();
  }

  onChange(setId: string): void {
    this.#runnerOf(setId, false).onChange();
  }

  /** Observes and reports these sets again, because the control plane lost their states. */
  observeAgain(setIds: readonly string[]): void {
    for (const setId of setIds) this.#runners.get(setId)?.onChange();
  }

  onRootfsMeasured(usedBytes: ReadonlyMap<string, number>): void {
    for (const runner of this.#runners.values()) runner.onRootfsMeasured(usedBytes);
  }

  onAvailable(): void {
    for (const runner of this.#runners.values()) runner.onAvailable();
  }

  /**
   * Observes the whole host. The first call adopts every set that it finds. Later calls correct
   * changes without events and return the number of such sets. A set that cannot be observed now is
   * observed again by its own runner.
   */
  async resync(): Promise<number> {
    const { port, cancelled, log } = this.#context;
    const epochs = new Map([...this.#runners].map(([setId, runner]) => [setId, runner.epoch]));
    const unseen = new Set<string>();
    const seen = await port.observe(cancelled, (setId, error) => {
      unseen.add(setId);
      log.warn({ err: error, setId }, "the resync cannot observe the set");
    });
    const observed = new Map(seen.map((set) => [set.setId, set]));
    for (const setId of unseen) this.onChange(setId);
    let corrections = 0;
    for (const [setId, runner] of this.#runners) {
      const epoch = epochs.get(setId);
      if (unseen.has(setId)) continue;
      if (epoch !== undefined && runner.onResync(observed.get(setId), epoch)) corrections++;
    }
    for (const [setId, set] of observed) {
      if (this.#runners.has(setId)) continue;
      if (this.#hasResynced && !epochs.has(setId)) corrections++;
      this.#runnerOf(setId, false).adopt(set);
    }
    this.#hasResynced = true;
    return corrections;
  }

  /**
   * Starts runners for the desired sets of the previous agent. Sets that were found already have
   * runners.
   */
  startPersistedSets(): void {
    for (const setId of this.#desired.keys()) this.#runnerOf(setId, false);
    for (const setId of this.#unsupported.keys()) this.#runnerOf(setId, false);
  }

  /** Resolves when no step is in progress. */
  async settled(): Promise<void> {
    await Promise.all([...this.#runners.values()].map((runner) => runner.settled()));
  }

  #runnerOf(setId: string, isAbsent: boolean): SetRunner {
    let runner = this.#runners.get(setId);
    if (!runner) {
      runner = new SetRunner(setId, this.#context, { isAbsent });
      this.#runners.set(setId, runner);
      const desired = this.#desired.get(setId);
      const unsupported = this.#unsupported.get(setId);
      if (desired || unsupported) runner.setDesired(desired, unsupported);
    }
    return runner;
  }
}
