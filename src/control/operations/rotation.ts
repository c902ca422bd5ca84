/** The bounds of one loop in a round. */
export interface LoopBounds {
  itemsMax: number;
  /** The loop then ends, by the clock of `performance.now`. */
  endsAtMs: number;
  signal: AbortSignal | undefined;
}

/**
 * Handles items in the order of their ids, over several rounds. A loop that ends early leaves its
 * other items to the next round, which continues after the last item. So an item that waits for a
 * lock cannot delay the same other items in each round.
 */
export class Rotation {
  readonly #list: (after: string, limit: number) => Promise<string[]>;
  /** The last item of the previous round. */
  #last = "";

  /** `list` returns the items with work after an id, in the order of their ids. */
  constructor(list: (after: string, limit: number) => Promise<string[]>) {
    this.#list = list;
  }

  /**
   * Handles the next items until the time ends or the signal aborts. The time ends no loop before
   * its first item. Runs `prepare` before the first item. Throws the errors of the functions.
   */
  async run(
    { itemsMax, endsAtMs, signal }: LoopBounds,
    handle: (id: string) => Promise<unknown>,
    prepare?: () => Promise<unknown>,
  ): Promise<void> {
    const ids = await this.#listNext(itemsMax);
    if (ids.length > 0) await prepare?.();
    for (const [index, id] of ids.entries()) {
      if (signal?.aborted || (index > 0 && performance.now() >= endsAtMs)) return;
      this.#last = id;
      await handle(id);
    }
    if (ids.length < itemsMax) this.#last = "";
  }

  async #listNext(limit: number): Promise<string[]> {
    const ids = await this.#list(this.#last, limit);
    return ids.length > 0 || this.#last === "" ? ids : this.#list("", limit);
  }
}
