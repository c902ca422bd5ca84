import type { NetworkState } from "../../contracts/network-driver/network-state.ts";
import type { LoadedState, StateStore } from "../ports/state-store.ts";

/** The last network state of the agent, in memory and in the store. */
export class StoredNetworkState {
  readonly #store: StateStore<NetworkState>;
  #current: NetworkState | undefined;

  constructor(store: StateStore<NetworkState>, loaded: LoadedState<NetworkState>) {
    this.#store = store;
    this.#current = loaded.kind === "valid" ? loaded.value : undefined;
  }

  /** Undefined before the first state. */
  get current(): NetworkState | undefined {
    return this.#current;
  }

  /**
   * Resolves once the state is durable. If a newer version is stored, returns that version and
   * changes nothing. If the store rejects, the previous state stays.
   */
  async accept(state: NetworkState): Promise<number | undefined> {
    const previous = this.#current;
    if (previous && previous.version > state.version) return previous.version;
    this.#current = state;
    try {
      await this.#store.save(() => this.#current ?? state);
    } catch (error) {
      if (this.#current === state) this.#current = previous;
      throw error;
    }
    return undefined;
  }
}
