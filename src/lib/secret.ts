const redacted = "[redacted]";

/** A credential in the configuration. Printing, logging and serializing show `[redacted]`. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** Returns the credential. Call it at the point of use and do not store the result. */
  reveal(): string {
    return this.#value;
  }

  toJSON(): string {
    return redacted;
  }

  toString(): string {
    return redacted;
  }

  /** The output of console.log and util.inspect. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return redacted;
  }
}
