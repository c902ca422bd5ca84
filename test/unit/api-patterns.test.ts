import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

/** The longest text in the test of a pattern. */
const CHARS_MAX = 4_096;

/**
 * An ambiguous repetition in a pattern takes exponential time on a text that does not match.
 * Meanwhile the process serves no other request.
 */
it("no text of a request keeps the API busy with a pattern", () => {
  const file = new URL("../../openapi.json", import.meta.url);
  const patterns = new Set<string>();
  JSON.parse(readFileSync(file, "utf8"), (key, value: unknown) => {
    if (key === "pattern" && typeof value === "string") patterns.add(value);
    return value;
  });
  expect(patterns.size).toBeGreaterThan(10);
  const characters = ["a", "A", "0", "_", "-", ".", "/", ":", " ", "@"];
  const starts = ["", "a", "/", "net", "a/", "a:1/"];
  for (const pattern of patterns) {
    const expression = new RegExp(pattern);
    for (const first of characters) {
      for (const second of ["", ...characters]) {
        for (const start of starts) {
          const text = `${start}${(first + second).repeat(CHARS_MAX / 2)}`.slice(0, CHARS_MAX);
          expect(expression.test(`${text}\u0000`)).toBe(false);
        }
      }
    }
  }
});
