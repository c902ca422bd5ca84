import { stripVTControlCharacters } from "node:util";

/** The destination of the output: a stream of the process, or a test's collector. */
export interface OutputStream {
  write(text: string | Uint8Array): unknown;
}

export interface TerminalOptions {
  stdout: OutputStream;
  stderr: OutputStream;
  isStdoutTty: boolean;
  isStderrTty: boolean;
  /** Columns of the terminal. Live lines end there. */
  columns: number;
  /** False when NO_COLOR is set: see https://no-color.org. */
  colorAllowed: boolean;
}

export type Tone = "good" | "bad" | "warn" | "dim" | "bold";

const escapes: Record<Tone, [number, number]> = {
  good: [32, 39],
  bad: [31, 39],
  warn: [33, 39],
  dim: [2, 22],
  bold: [1, 22],
};

/**
 * Writes results to stdout and messages to stderr, so a pipe gets results only. Only terminals get
 * colors. The last line of stderr may be live: it changes in place, and the next write erases it.
 */
export class Terminal {
  readonly isStdoutTty: boolean;
  readonly isStderrTty: boolean;
  readonly columns: number;
  readonly #options: TerminalOptions;
  #liveLine = "";

  constructor(options: TerminalOptions) {
    this.#options = options;
    this.isStdoutTty = options.isStdoutTty;
    this.isStderrTty = options.isStderrTty;
    this.columns = options.columns;
  }

  /** Writes a line of the result. */
  out(line = ""): void {
    this.#wipeLiveLine();
    this.#options.stdout.write(`${line}\n`);
  }

  /** Writes bytes of the result unchanged, for logs. */
  outRaw(bytes: Uint8Array): void {
    this.#wipeLiveLine();
    this.#options.stdout.write(bytes);
  }

  /** Writes a message to stderr. */
  note(line = ""): void {
    this.#wipeLiveLine();
    this.#options.stderr.write(`${line}\n`);
  }

  /** Rewrites the live line. Does nothing without a terminal, where callers print notes instead. */
  live(line: string): void {
    if (!this.isStderrTty) return;
    const cut = cutTo(line, this.#options.columns - 1);
    this.#options.stderr.write(`\r\u001b[2K${cut}`);
    this.#liveLine = cut;
  }

  endLive(): void {
    this.#wipeLiveLine();
  }

  /** Ends a line of the result at the edge of a terminal. A pipe or a file gets the whole line. */
  fitOut(line: string): string {
    return this.isStdoutTty ? cutTo(line, this.columns) : line;
  }

  paintOut(tone: Tone, text: string): string {
    return paint(tone, text, this.isStdoutTty && this.#options.colorAllowed);
  }

  paintNote(tone: Tone, text: string): string {
    return paint(tone, text, this.isStderrTty && this.#options.colorAllowed);
  }

  #wipeLiveLine(): void {
    if (this.#liveLine === "") return;
    this.#options.stderr.write("\r\u001b[2K");
    this.#liveLine = "";
  }
}

function paint(tone: Tone, text: string, colored: boolean): string {
  if (!colored || text === "") return text;
  const [on, off] = escapes[tone];
  return `\u001b[${on}m${text}\u001b[${off}m`;
}

/** Cuts by visible characters, because color codes have no width. A cut line ends in "…". */
function cutTo(line: string, columns: number): string {
  if (stripVTControlCharacters(line).length <= columns) return line;
  let visible = 0;
  let cut = "";
  let isCut = false;
  // eslint-disable-next-line no-control-regex -- color codes are control characters
  for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
    if (part.startsWith("\u001b")) {
      cut += part;
    } else if (!isCut) {
      const left = columns - 1 - visible;
      isCut = part.length > left;
      cut += isCut ? `${part.slice(0, Math.max(0, left))}…` : part;
      visible += part.length;
    }
  }
  return cut;
}
