import type { Log } from "../lib/log.ts";
import { DesiredSets } from "./desired-sets.ts";
import type { AgentState, StateStore } from "./ports/state-store.ts";

/**
 * What an agent knows across its restarts, and what of that is on the disk. What was accepted may be acted on at once, but
 * is told as accepted only once it is written down.
 */
export class KeptState {
  readonly desired: DesiredSets;
  readonly #store: StateStore;
  readonly #log: Log;
  /** Specs that have run, by set id. */
  readonly #hasRun: Map<string, string>;
  #persistedGeneration: number;

  constructor(store: StateStore, kept: AgentState | undefined, log: Log) {
    this.#store = store;
    this.#log = log;
    this.desired = new DesiredSets(kept);
    this.#hasRun = new Map(Object.entries(kept?.hasRun ?? {}));
    this.#persistedGeneration = kept?.acceptedGeneration ?? 0;
  }

  get persistedGeneration(): number {
    return this.#persistedGeneration;
  }

  hasRun(setId: string, specKey: string): boolean {
    return this.#hasRun.get(setId) === specKey;
  }

  noteRan(setId: string, specKey: string): void {
    if (this.hasRun(setId, specKey)) return;
    this.#hasRun.set(setId, specKey);
    this.saveSoon();
  }

  forgetRan(setId: string): void {
    this.#hasRun.delete(setId);
  }

  /** Everything accepted so far is on the disk when it resolves. */
  async save(): Promise<void> {
    const { acceptedGeneration } = this.desired;
    await this.#store.save({
      acceptedGeneration,
      desired: this.desired.list(),
      hasRun: Object.fromEntries(this.#hasRun),
    });
    this.#persistedGeneration = Math.max(this.#persistedGeneration, acceptedGeneration);
  }

  /** For hints: nobody waits for them, and the next save carries them if this one fails. */
  saveSoon(): void {
    this.save().catch((error: unknown) => {
      this.#log.error({ err: error }, "state not saved");
    });
  }
}
