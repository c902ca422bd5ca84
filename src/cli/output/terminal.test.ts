import { stripVTControlCharacters } from "node:util";
import { describe, expect, it } from "vitest";
import { Terminal } from "./terminal.ts";

function openTerminal(isStdoutTty: boolean): Terminal {
  const stream = { write: () => undefined };
  return new Terminal({
    stdout: stream,
    stderr: stream,
    isStdoutTty,
    isStderrTty: false,
    columns: 10,
    colorAllowed: true,
  });
}

describe("a line of the result", () => {
  it.each([
    ["0123456789", "0123456789"],
    ["0123456789a", "012345678…"],
    ["", ""],
  ])("%o ends at the edge of a terminal", (line, shown) => {
    expect(openTerminal(true).fitOut(line)).toBe(shown);
  });

  it("keeps its color codes, which have no width", () => {
    const terminal = openTerminal(true);
    const line = `${terminal.paintOut("good", "01234")}${terminal.paintOut("bad", "56789abc")}`;
    const shown = terminal.fitOut(line);
    expect(stripVTControlCharacters(shown)).toBe("012345678…");
    expect(shown.endsWith("\u001b[39m")).toBe(true);
  });

  it("is whole in a pipe", () => {
    expect(openTerminal(false).fitOut("0123456789a")).toBe("0123456789a");
  });
});
