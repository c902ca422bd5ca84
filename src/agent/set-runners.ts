import type { DesiredSet } from "../contracts/agent-protocol/protocol.ts";
import type { AcceptedAnswer } from "./desired-sets.ts";
import { SetRunner, type SetRunnerContext } from "./set-runner.ts";

/** The sets of a host, each with its runner: those that are desired, and those that were found. */
export class SetRunners {
  readonly #context: SetRunnerContext;
  /** What may be acted on by now. */
  readonly #desired: Map<string, DesiredSet>;
  readonly #runners = new Map<string, SetRunner>();
  #hasLooked = false;
  #mayRevive = false;
  #knowsAll = false;

  /** `kept` is what was desired when the agent last ran. */
  constructor(
    context: Omit<SetRunnerContext, "onGone" | "canRemoveUnknown" | "mayRevive">,
    kept: readonly DesiredSet[],
  ) {
    this.#desired = new Map(kept.map((set) => [set.setId, set]));
    this.#context = {
      ...context,
      mayRevive: () => this.#mayRevive,
      canRemoveUnknown: () => this.#knowsAll,
      onGone: (setId) => this.#runners.delete(setId),
    };
  }

  get size(): number {
    return this.#runners.size;
  }

  /**
   * Sets are new, changed, or not this host's any more. Until a complete answer was applied nothing is known of sets that
   * are found and not named, and they are let be (I12).
   */
  apply({ changed, dropped, isComplete }: Omit<AcceptedAnswer, "kind">): void {
    for (const set of changed) {
      // What no look has shown and what nobody made since is not there: a new set need not be looked for.
      const isAbsent = this.#hasLooked && set.desired === "running";
      this.#desired.set(set.setId, set);
      this.#runnerOf(set.setId, isAbsent).setDesired(set);
    }
    for (const setId of dropped) {
      this.#desired.delete(setId);
      this.#runners.get(setId)?.setDesired(undefined);
    }
    if (isComplete && !this.#knowsAll) {
      this.#knowsAll = true;
      for (const [setId, runner] of this.#runners) {
        if (!this.#desired.has(setId)) runner.setDesired(undefined);
      }
    }
  }

  /** The control plane was heard, or nobody knows when it will be. */
  allowRevival(): void {
    if (this.#mayRevive) return;
    this.#mayRevive = true;
    for (const runner of this.#runners.values()) runner.wake();
  }

  onChange(setId: string): void {
    this.#runnerOf(setId, false).onChange();
  }

  /** The control plane does not know the states of these sets any more: what is seen of them now is reported. */
  lookAgain(setIds: readonly string[]): void {
    for (const setId of setIds) this.#runners.get(setId)?.onChange();
  }

  onRootfsMeasured(usedBytes: ReadonlyMap<string, number>): void {
    for (const runner of this.#runners.values()) runner.onRootfsMeasured(usedBytes);
  }

  onAvailable(): void {
    for (const runner of this.#runners.values()) runner.onAvailable();
  }

  /**
   * Looks at the whole host. The first time, everything that is found is adopted; later, what has changed without an event
   * is put right. Gives the number of sets for which that was so.
   */
  async lookAtAll(): Promise<number> {
    const { port, cancelled } = this.#context;
    const epochs = new Map([...this.#runners].map(([setId, runner]) => [setId, runner.epoch]));
    const observed = new Map((await port.observe(cancelled)).map((set) => [set.setId, set]));
    let corrections = 0;
    for (const [setId, runner] of this.#runners) {
      const epoch = epochs.get(setId);
      if (epoch !== undefined && runner.onLook(observed.get(setId), epoch)) corrections++;
    }
    for (const [setId, set] of observed) {
      if (this.#runners.has(setId)) continue;
      if (this.#hasLooked && !epochs.has(setId)) corrections++;
      this.#runnerOf(setId, false).adopt(set);
    }
    this.#hasLooked = true;
    return corrections;
  }

  /** Begins with what was desired when the agent stopped; what was found of it is adopted already. */
  startKept(): void {
    for (const setId of this.#desired.keys()) this.#runnerOf(setId, false);
  }

  /** Resolves when no step is under way. */
  async settled(): Promise<void> {
    await Promise.all([...this.#runners.values()].map((runner) => runner.settled()));
  }

  #runnerOf(setId: string, isAbsent: boolean): SetRunner {
    let runner = this.#runners.get(setId);
    if (!runner) {
      runner = new SetRunner(setId, this.#context, { isAbsent });
      this.#runners.set(setId, runner);
      const desired = this.#desired.get(setId);
      if (desired) runner.setDesired(desired);
    }
    return runner;
  }
}
