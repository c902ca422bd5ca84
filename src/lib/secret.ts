const redacted = "[redacted]";

/** A credential on its way through the configuration: nothing that prints, logs or serialises it shows what it is. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The credential itself. Call it where it is used, and keep the result nowhere. */
  reveal(): string {
    return this.#value;
  }

  toJSON(): string {
    return redacted;
  }

  toString(): string {
    return redacted;
  }

  /** What console.log and util.inspect show. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return redacted;
  }
}
