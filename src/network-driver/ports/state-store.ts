/** A durable value of the driver. */
export interface StateStore<T> {
  /**
   * Loads the value. Sets an invalid one aside, so that the driver starts without it and an
   * operator can examine it. Rejects if it cannot read the storage.
   */
  load(): Promise<LoadedState<T>>;
  /**
   * Saves the value durably: after it resolves, the value survives a power failure. Calls `read`
   * for the value when the write begins. If calls overlap, the latest value is saved.
   */
  save(read: () => T): Promise<void>;
}

export type LoadedState<T> =
  | { kind: "valid"; value: T }
  | { kind: "missing" }
  /** `value` lacks the invalid entries. `copiedTo` is the path of a copy with all entries. */
  | { kind: "partial"; value: T; reason: string; copiedTo: string }
  /** `movedTo` is the path of the invalid value. */
  | { kind: "invalid"; reason: string; movedTo: string };
