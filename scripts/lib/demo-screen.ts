import { appendFileSync, writeFileSync } from "node:fs";

/** What the demo prints: headings, lines, and moments of a timeline. Colours on a terminal only. */
export class DemoScreen {
  readonly #logFile: string;
  readonly #colored = process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === "";
  #headings = 0;

  /** @param logFile begins anew; takes a copy of all lines, beside what Berth logs */
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

  /** One moment of a timeline: milliseconds since its zero, and what happened. */
  moment(sinceMs: number, text: string, tone: "plain" | "good" | "key" = "plain"): void {
    const time = `+${Math.round(sinceMs)} ms`.padStart(10);
    const painted = tone === "plain" ? text : this.#paint(tone === "good" ? 32 : 1, text);
    this.#write(`   ${this.#paint(2, time)}  ${painted}`);
  }

  /** The result for programs: the last line of all. */
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
