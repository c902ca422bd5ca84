import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { readProgress } from "./progress.ts";

const read = (...chunks: string[]) => readProgress(Readable.from(chunks));

it("finds no failure in the progress of a pull", async () => {
  const lines = '{"status":"Pulling","id":"a","progressDetail":{"current":1}}\n{"status":"Done"}\n';
  expect(await read(lines)).toBeUndefined();
});

it.each([
  ["by error", '{"error":"toomany"}\n'],
  ["by errorDetail", '{"errorDetail":{"code":429,"message":"toomany"}}\n'],
  ["by both", '{"errorDetail":{"message":"toomany"},"error":"toomany"}'],
])("finds a failure %s, even in pieces", async (_by, line) => {
  expect(await read(`{"status":"Pulling"}\n${line.slice(0, 9)}`, line.slice(9))).toBe("toomany");
});

it("returns a line that it cannot parse", async () => {
  expect(await read('{"error":\n')).toBe('{"error":');
});
