import type { DesiredSet } from "../contracts/agent-protocol/desired-set.ts";
import type { UnsupportedSet } from "../contracts/agent-protocol/read-desired-sets.ts";
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
  #knowsAll = false;
  #isFenced = false;

  /** `desired` has the sets that the previous agent accepted. */
  constructor(
    context: Omit<
      SetRunnerContext,
      "onObsolete" | "canRemoveUnknown" | "mayStartSets" | "isFenced"
    >,
    desired: readonly DesiredSet[],
    unsupported: readonly UnsupportedSet[],
  ) {
    this.#unsupported = new Map(unsupported.map((set) => [set.setId, set]));
    this.#desired = new Map(desired.map((set) => [set.setId, set]));
    this.#context = {
      ...context,
      mayStartSets: () => this.#mayStartSets,
      canRemoveUnknown: () => this.#knowsAll,
      isFenced: () => this.#isFenced,
      onObsolete: (setId) => this.#runners.delete(setId),
    };
  }

  get size(): number {
    return this.#runners.size;
  }

  /**
   * Applies new, changed and dropped sets. Until a complete answer is applied, the agent does not
   * touch sets that it found and that no answer names (I12).
   */
  apply({ changed, unsupported, dropped, isComplete }: Omit<AcceptedAnswer, "kind">): void {
    for (const set of changed) {
      // No resync has shown the set, so a new set needs no observation.
      const isAbsent = this.#hasResynced && set.desired === "running";
      this.#desired.set(set.setId, set);
      this.#unsupported.delete(set.setId);
      this.#runnerOf(set.setId, isAbsent).setDesired(set);
    }
    for (const set of unsupported) {
      this.#unsupported.set(set.setId, set);
      this.#runnerOf(set.setId, false).setDesired(this.#desired.get(set.setId), set);
    }
    for (const setId of dropped) {
      this.#desired.delete(setId);
      this.#unsupported.delete(setId);
      this.#runners.get(setId)?.setDesired(undefined);
    }
    if (isComplete && !this.#knowsAll) {
      this.#knowsAll = true;
      for (const [setId, runner] of this.#runners) {
        if (!this.#desired.has(setId) && !this.#unsupported.has(setId))
          runner.setDesired(undefined);
      }
    }
  }

  /** Ends the startup hold: the control plane answered, or the hold timed out. */
  allowStarts(): void {
    if (this.#mayStartSets) return;
    this.#mayStartSets = true;
    for (const runner of this.#runners.values()) runner.wake();
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
   * changes without events and return the number of such sets.
   */
  async resync(): Promise<number> {
    const { port, cancelled } = this.#context;
    const epochs = new Map([...this.#runners].map(([setId, runner]) => [setId, runner.epoch]));
    const observed = new Map((await port.observe(cancelled)).map((set) => [set.setId, set]));
    let corrections = 0;
    for (const [setId, runner] of this.#runners) {
      const epoch = epochs.get(setId);
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
