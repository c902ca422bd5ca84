import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { restoreHistory, toPersistedHistory } from "../set/persisted-history.ts";
import type { SetHistory } from "../set/set-history.ts";
import type { SetRunnerContext } from "./set-runner-context.ts";

/** The part of a set's history that the state file stores. */
export class StoredHistory {
  readonly #setId: string;
  readonly #context: SetRunnerContext;
  /** The stored part as JSON. */
  #text: string | undefined;

  constructor(setId: string, context: SetRunnerContext) {
    this.#setId = setId;
    this.#context = context;
  }

  restoreTo(history: SetHistory): void {
    const { persistedHistory, stopsAtRootfs } = this.#context;
    const persisted = persistedHistory(this.#setId);
    restoreHistory(history, persisted, stopsAtRootfs);
    this.#text = persisted && JSON.stringify(persisted);
  }

  /** Stores the history if its stored part has changed. */
  store(history: SetHistory, template: SetTemplate): void {
    const persisted = toPersistedHistory(history, template);
    const text = persisted && JSON.stringify(persisted);
    if (text === this.#text) return;
    this.#text = text;
    this.#context.onPersistedHistory(this.#setId, persisted);
  }
}
