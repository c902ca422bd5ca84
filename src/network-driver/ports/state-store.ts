/** A durable value of the driver. */
export interface StateStore<T> {
  /**
   * Loads the value. An invalid one is set aside, so that the driver starts without it and an
   * operator can examine it. Rejects if the storage cannot be read.
   */
  load(): Promise<LoadedState<T>>;
  /**
   * Saves durably: after it resolves, the value survives a power failure. Calls may overlap, and
   * then the last value is saved. `read` is called when the write begins.
   */
  save(read: () => T): Promise<void>;
}

export type LoadedState<T> =
  | { kind: "valid"; value: T }
  | { kind: "missing" }
  /** `value` lacks what was invalid. `copiedTo` is a copy of everything. */
  | { kind: "partial"; value: T; reason: string; copiedTo: string }
  /** `movedTo` is the place of the invalid value. */
  | { kind: "invalid"; reason: string; movedTo: string };
