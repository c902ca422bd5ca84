/** Bounds how many holders each key has at the same time. Holders beyond the bound are rejected. */
export class KeyedLimit {
  readonly #holdersMax: number;
  readonly #holders = new Map<string, number>();

  constructor(holdersMax: number) {
    this.#holdersMax = holdersMax;
  }

  /**
   * Takes a slot, and returns the function that releases it. Further calls of that function have no
   * effect. Returns undefined if the key has no free slot.
   */
  tryEnter(key: string): (() => void) | undefined {
    const holders = this.#holders.get(key) ?? 0;
    if (holders >= this.#holdersMax) return undefined;
    this.#holders.set(key, holders + 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      const remaining = (this.#holders.get(key) ?? 1) - 1;
      if (remaining === 0) this.#holders.delete(key);
      else this.#holders.set(key, remaining);
    };
  }
}
