import type { SyncResult } from "../contracts/agent-protocol/protocol.ts";
import type { Log } from "../lib/log.ts";
import { type AcceptedAnswer, DesiredSets } from "./desired-sets.ts";
import type { KeptSet } from "./kept-set.ts";
import type { AgentState, StateStore } from "./ports/state-store.ts";

/** What an agent knows across its restarts, and what of that is on the disk. */
export class KeptState {
  readonly desired: DesiredSets;
  readonly #store: StateStore;
  readonly #log: Log;
  /** Specs that have run, by set id. */
  readonly #hasRun: Map<string, string>;
  readonly #keptSets: Map<string, KeptSet>;
  /** Answers that are being written down, or could not be yet, oldest first. */
  readonly #unapplied: AcceptedAnswer[] = [];
  #persistedGeneration: number;
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(store: StateStore, kept: AgentState | undefined, log: Log) {
    this.#store = store;
    this.#log = log;
    this.desired = new DesiredSets(kept);
    this.#hasRun = new Map(Object.entries(kept?.hasRun ?? {}));
    this.#keptSets = new Map(Object.entries(kept?.kept ?? {}));
    this.#persistedGeneration = kept?.acceptedGeneration ?? 0;
  }

  get persistedGeneration(): number {
    return this.#persistedGeneration;
  }

  /**
   * Writes down what an answer says, and only then has it applied: an agent that is killed in between knows no less when it
   * starts again than it had acted on (I4). What cannot be written down waits for the next answer, and rejects.
   */
  async accept(
    result: SyncResult,
    apply: (accepted: AcceptedAnswer) => void,
  ): Promise<"news" | "nothing" | "stale"> {
    const acceptance = this.desired.accept(result);
    if (acceptance.kind === "stale") {
      const { hostGeneration } = result;
      const { acceptedGeneration } = this.desired;
      this.#log.warn({ hostGeneration, acceptedGeneration }, "older answer refused");
      return "stale";
    }
    const hasNews = acceptance.changed.length + acceptance.dropped.length > 0;
    const isBehind = this.desired.acceptedGeneration > this.#persistedGeneration;
    if (!hasNews && !isBehind && this.#unapplied.length === 0) {
      apply(acceptance);
      return "nothing";
    }
    this.#unapplied.push(acceptance);
    await this.save();
    for (const due of this.#unapplied.splice(0, this.#unapplied.indexOf(acceptance) + 1))
      apply(due);
    return hasNews ? "news" : "nothing";
  }

  /** Whether a set has run here, as it is or, without a key, in any form. */
  hasRun(setId: string, specKey?: string): boolean {
    const ran = this.#hasRun.get(setId);
    return specKey === undefined ? ran !== undefined : ran === specKey;
  }

  noteRan(setId: string, specKey: string): void {
    if (this.hasRun(setId, specKey)) return;
    this.#hasRun.set(setId, specKey);
    this.saveSoon();
  }

  keptSet(setId: string): KeptSet | undefined {
    return this.#keptSets.get(setId);
  }

  noteKept(setId: string, kept: KeptSet | undefined): void {
    if (kept) this.#keptSets.set(setId, kept);
    else this.#keptSets.delete(setId);
    this.saveSoon();
  }

  forget(setId: string): void {
    this.#hasRun.delete(setId);
    this.#keptSets.delete(setId);
  }

  /** Everything accepted so far is on the disk when it resolves. */
  async save(): Promise<void> {
    const { acceptedGeneration } = this.desired;
    const written = this.#store.save({
      acceptedGeneration,
      desired: this.desired.list(),
      hasRun: Object.fromEntries(this.#hasRun),
      kept: Object.fromEntries(this.#keptSets),
    });
    this.#lastWrite = written.catch(() => undefined); // its caller has the error
    await written;
    this.#persistedGeneration = Math.max(this.#persistedGeneration, acceptedGeneration);
  }

  /** Resolves when nothing is being written any more, if nothing begins to be meanwhile. */
  async settled(): Promise<void> {
    await this.#lastWrite;
  }

  /** For hints: nobody waits for them, and the next save carries them if this one fails. */
  saveSoon(): void {
    this.save().catch((error: unknown) => {
      this.#log.error({ err: error }, "state not saved");
    });
  }
}
