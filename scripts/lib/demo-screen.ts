import { appendFileSync, writeFileSync } from "node:fs";

/**
 * The output of the demo: headings, lines, and moments of a timeline. It is colored only on a
 * terminal.
 */
export class DemoScreen {
  readonly #logFile: string;
  readonly #colored = process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "";
  #headings = 0;

  /** @param logFile is truncated, and gets a copy of all lines beside Berth's log */
  constructor(logFile: string) {
    this.#logFile = logFile;
    writeFileSync(logFile, "");
  }

  heading(text: string): void {
    this.#headings++;
    this.#write("");
    this.#write(this.#paint(1, `${this.#headings}. ${text}`));
  }

  line(text = ""): void {
    this.#write(text === "" ? "" : `   ${text}`);
  }

  good(text: string): void {
    this.#write(`   ${this.#paint(32, "ok")} ${text}`);
  }

  bad(text: string): void {
    this.#write(`   ${this.#paint(31, "failed")} ${text}`);
  }

  command(text: string): void {
    this.#write(`   ${this.#paint(36, `$ ${text}`)}`);
  }

  /** Prints a moment of a timeline: milliseconds since its start, and the event. */
  moment(sinceMs: number, text: string, tone: "plain" | "good" | "key" = "plain"): void {
    const time = `+${Math.round(sinceMs)} ms`.padStart(10);
    const painted = tone === "plain" ? text : this.#paint(tone === "good" ? 32 : 1, text);
    this.#write(`   ${this.#paint(2, time)}  ${painted}`);
  }

  /** Prints the result for programs, as the last line. */
  result(result: Record<string, unknown>): void {
    this.#write(JSON.stringify(result));
  }

  #write(line: string): void {
    process.stdout.write(`${line}\n`);
    if (line !== "") appendFileSync(this.#logFile, `${line}\n`);
  }

  #paint(code: number, text: string): string {
    return this.#colored ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}
