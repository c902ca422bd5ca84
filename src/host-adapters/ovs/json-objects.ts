const brace = { open: 0x7b, close: 0x7d };
const bracket = { open: 0x5b, close: 0x5d };
const quote = 0x22;
const backslash = 0x5c;
const whiteSpace = new Set([0x20, 0x09, 0x0a, 0x0d]);

/**
 * Splits a stream of bytes into the texts of JSON objects, which follow each other with white space
 * or nothing between them. It finds the end of an object by its brackets. It does not check the
 * syntax otherwise, so the caller parses each text. These bytes never occur within a character of
 * UTF-8.
 */
export class JsonObjects {
  readonly #bytesMax: number;
  /** The beginning of an object, whose end has not arrived. */
  #chunks: Buffer[] = [];
  #bytes = 0;
  #depth = 0;
  #isInString = false;
  #isEscaped = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Returns the objects that end in this chunk. Throws if an object is too large, or is none. */
  push(chunk: Buffer): string[] {
    const objects: string[] = [];
    let start = 0;
    for (let index = 0; index < chunk.length; index += 1) {
      const byte = chunk[index] ?? 0;
      if (this.#depth === 0 && whiteSpace.has(byte)) start = index + 1;
      else if (this.#endsWith(byte)) {
        objects.push(this.#take(chunk.subarray(start, index + 1)));
        start = index + 1;
      }
    }
    if (this.#depth > 0) this.#append(chunk.subarray(start));
    return objects;
  }

  /** Notes the next byte. Returns true if the object ends with it. */
  #endsWith(byte: number): boolean {
    if (this.#depth === 0 && byte !== brace.open)
      throw new Error("the answer is not a JSON object");
    if (this.#isEscaped) this.#isEscaped = false;
    else if (this.#isInString) {
      this.#isEscaped = byte === backslash;
      this.#isInString = byte !== quote;
    } else if (byte === quote) this.#isInString = true;
    else if (byte === brace.open || byte === bracket.open) this.#depth += 1;
    else if (byte === brace.close || byte === bracket.close) this.#depth -= 1;
    return this.#depth === 0;
  }

  #append(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#bytesMax)
      throw new Error(`the answer has more than ${this.#bytesMax} bytes`);
    this.#chunks.push(chunk);
  }

  #take(end: Buffer): string {
    this.#append(end);
    const text = Buffer.concat(this.#chunks).toString();
    this.#chunks = [];
    this.#bytes = 0;
    return text;
  }
}
