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

it("counts a line as progress only if it differs from the last one of its layer", async () => {
  const layer = (id: string, current: number) =>
    `${JSON.stringify({ status: "Downloading", id, progressDetail: { current } })}\n`;
  const lines = [layer("a", 1), layer("b", 1), layer("a", 1), layer("b", 1), layer("b", 2)];
  const stream = [...lines, layer("b", 2).slice(0, 20), layer("b", 2).slice(20), layer("a", 2)];
  let count = 0;
  await readProgress(Readable.from(stream), () => (count += 1));
  expect(count).toBe(4);
});
