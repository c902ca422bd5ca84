import { renderReasonText } from "../../contracts/api/reason-texts.ts";
import type { Reason } from "../../contracts/common/primitives.ts";
import type { Log } from "../../lib/log.ts";
import { type AcceptedAnswer, DesiredSets } from "./desired-sets.ts";
import type { PersistedHistory } from "../ports/state-store.ts";
import type { SyncAnswer } from "../ports/control-plane.ts";
import type { AgentState, StateStore } from "../ports/state-store.ts";
import { mergeAnswers, takeRemovals } from "./unsaved-answers.ts";

const diskFullCodes: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT"]);

/** The agent's knowledge that survives restarts, and the part of it that is on disk. */
export class PersistedState {
  readonly desired: DesiredSets;
  readonly #store: StateStore;
  readonly #log: Log;
  /** Specs that have run, by set id. */
  readonly #hasRun: Map<string, string>;
  readonly #histories: Map<string, PersistedHistory>;
  /** Accepted answers that are not yet on disk, oldest first. */
  readonly #unapplied: AcceptedAnswer[] = [];
  #persistedGeneration: number;
  #isHostDeleted: boolean;
  #fault: Reason | undefined;
  #lastWrite: Promise<void> = Promise.resolve();

  constructor(store: StateStore, persisted: AgentState | undefined, log: Log) {
    this.#store = store;
    this.#log = log;
    this.desired = new DesiredSets(persisted);
    this.#hasRun = new Map(Object.entries(persisted?.hasRun ?? {}));
    this.#histories = new Map(Object.entries(persisted?.histories ?? {}));
    this.#persistedGeneration = persisted?.acceptedGeneration ?? 0;
    this.#isHostDeleted = persisted?.isHostDeleted ?? false;
  }

  /** An operator deleted this host, so its sets must not run (I3). */
  get isHostDeleted(): boolean {
    return this.#isHostDeleted;
  }

  /** Why the last write failed; undefined if it succeeded. */
  get fault(): Reason | undefined {
    return this.#fault;
  }

  noteHostDeleted(isDeleted: boolean): void {
    this.#isHostDeleted = isDeleted;
    this.saveSoon();
  }

  get persistedGeneration(): number {
    return this.#persistedGeneration;
  }

  /**
   * Persists an answer before it applies it. So an agent that is killed between the two never knows
   * less than it has acted on (I4).
   *
   * If the write fails, for example on a full disk, the call rejects and the answer waits for the
   * next one. Orders that only stop or remove sets are applied all the same: they free space.
   */
  async accept(
    result: SyncAnswer,
    apply: (accepted: AcceptedAnswer) => void,
  ): Promise<"changed" | "unchanged" | "stale"> {
    const acceptance = this.desired.accept(result);
    if (acceptance.kind === "stale") {
      const { hostGeneration } = result;
      const { acceptedGeneration } = this.desired;
      // A newer answer overtook this one. A control plane that is behind emits host-ahead itself.
      this.#log.info({ hostGeneration, acceptedGeneration }, "outdated answer ignored");
      return "stale";
    }
    const hasChanges =
      acceptance.changed.length + acceptance.unsupported.length + acceptance.dropped.length > 0;
    const isBehind = this.desired.acceptedGeneration > this.#persistedGeneration;
    if (!hasChanges && !isBehind && this.#unapplied.length === 0) {
      apply(acceptance);
      return "unchanged";
    }
    this.#unapplied.push(acceptance);
    try {
      await this.save();
    } catch (error) {
      const removals = takeRemovals(this.#unapplied);
      this.#unapplied.splice(0, Number.POSITIVE_INFINITY, mergeAnswers(this.#unapplied));
      apply(removals);
      throw error;
    }
    for (const due of this.#unapplied.splice(0, this.#unapplied.indexOf(acceptance) + 1))
      apply(due);
    return hasChanges ? "changed" : "unchanged";
  }

  /** True if this spec of a set has run here; without a key, if any spec of it has. */
  hasRun(setId: string, specKey?: string): boolean {
    const ran = this.#hasRun.get(setId);
    return specKey === undefined ? ran !== undefined : ran === specKey;
  }

  noteRan(setId: string, specKey: string): void {
    if (this.hasRun(setId, specKey)) return;
    this.#hasRun.set(setId, specKey);
    this.saveSoon();
  }

  persistedHistory(setId: string): PersistedHistory | undefined {
    return this.#histories.get(setId);
  }

  storeHistory(setId: string, persisted: PersistedHistory | undefined): void {
    if (persisted) this.#histories.set(setId, persisted);
    else this.#histories.delete(setId);
    this.saveSoon();
  }

  forget(setId: string): void {
    this.#hasRun.delete(setId);
    this.#histories.delete(setId);
  }

  /** When it resolves, the state that was accepted before the call is on disk. */
  async save(): Promise<void> {
    const { acceptedGeneration } = this.desired;
    const written = this.#store.save({
      acceptedGeneration,
      desired: this.desired.list(),
      unsupported: this.desired.listUnsupported(),
      hasRun: Object.fromEntries(this.#hasRun),
      histories: Object.fromEntries(this.#histories),
      isHostDeleted: this.#isHostDeleted,
    });
    this.#lastWrite = written.catch(() => undefined); // the caller gets the error
    try {
      await written;
      this.#fault = undefined;
    } catch (error) {
      this.#fault = toFault(error);
      throw error;
    }
    this.#persistedGeneration = Math.max(this.#persistedGeneration, acceptedGeneration);
  }

  /** Resolves when the last write has ended, unless another write starts meanwhile. */
  async settled(): Promise<void> {
    await this.#lastWrite;
  }

  /** Saves hints without a wait. If it fails, the next save includes them. */
  saveSoon(): void {
    this.save().catch((error: unknown) => {
      this.#log.error({ err: error }, "cannot save the agent's state");
    });
  }
}

function toFault(error: unknown): Reason {
  const isDiskFull = error instanceof Error && "code" in error && diskFullCodes.has(error.code);
  const code = isDiskFull ? "disk-full" : "state-not-saved";
  const detail = error instanceof Error ? error.message : String(error);
  return { code, text: renderReasonText(code, { detail }) };
}
