import { expect, it } from "vitest";
import { newId, newIds } from "./ids.ts";

const RANDOM_CHARACTERS = 16;

it("gives each id random characters of its own, over many calls to the random source", () => {
  const ids = Array.from({ length: 3_000 }, () => newId("set")).concat(newIds("set", 3_000));
  expect(new Set(ids.map((id) => id.slice(-RANDOM_CHARACTERS))).size).toBe(ids.length);
});

it("gives ids that sort by the millisecond of their creation", async () => {
  const earlier = newIds("set", 500);
  const untilMs = Date.now() + 1;
  while (Date.now() < untilMs) await new Promise((resolve) => setImmediate(resolve));
  const later = newId("set");
  expect(earlier.every((id) => id < later)).toBe(true);
});
