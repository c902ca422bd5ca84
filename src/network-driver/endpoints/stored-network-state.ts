import type {
  LoadedNetworkState,
  NetworkState,
} from "../../contracts/network-driver/network-state.ts";
import type { LoadedState, StateStore } from "../ports/state-store.ts";

/** The last network state of the agent, in memory and in the store. */
export class StoredNetworkState {
  readonly #store: StateStore<LoadedNetworkState>;
  #current: LoadedNetworkState | undefined;
  #isUnsaved = false;
  #isUnreadable: boolean;

  constructor(store: StateStore<LoadedNetworkState>, loaded: LoadedState<LoadedNetworkState>) {
    this.#store = store;
    this.#current = "value" in loaded ? loaded.value : undefined;
    this.#isUnreadable = loaded.kind === "invalid";
  }

  /** Undefined before the first state. */
  get current(): LoadedNetworkState | undefined {
    return this.#current;
  }

  /** True if the stored state was invalid, and the agent has sent none since. */
  get isUnreadable(): boolean {
    return this.#isUnreadable;
  }

  /** The networks whose rules this release cannot enforce. */
  listUnenforced(): string[] {
    const networks = this.#current?.networks ?? [];
    return networks
      .filter(({ hasUnknownRules }) => hasUnknownRules)
      .map(({ networkId }) => networkId);
  }

  /**
   * Makes the state the current one, and returns undefined. If the current one has a higher version
   * of the same source, changes nothing and returns that version. Does not store the state: see
   * `save`. So a full disk delays no flows: a moved set is reachable, and no old host is trusted.
   */
  accept(state: NetworkState): number | undefined {
    const current = this.#current;
    if (current?.source === state.source && current.version > state.version) return current.version;
    this.#current = state;
    this.#isUnreadable = false;
    this.#isUnsaved = true;
    return undefined;
  }

  /** Stores the current state unless it is stored. Resolves once it is durable. */
  async save(): Promise<void> {
    const state = this.#current;
    if (!this.#isUnsaved || !state) return;
    await this.#store.save(() => this.#current ?? state);
    if (this.#current === state) this.#isUnsaved = false;
  }
}
