import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JsonObjects } from "./json-objects.ts";

const bytesMax = 1_000_000;
const jsonObject = fc
  .dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ stringUnit: "binary" }))
  .map((value) => JSON.stringify(value));

/** Cuts bytes at these places, which may repeat. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...places.map((place) => place % (bytes.length + 1)), bytes.length].sort(
    (a, b) => a - b,
  );
  return ends.map((end, index) => bytes.subarray(ends[index - 1] ?? 0, end));
}

describe("JsonObjects", () => {
  it("returns each object of a stream once, wherever the chunks end", () => {
    const space = fc.constantFrom("", " ", "\n", "\r\n\t ");
    fc.assert(
      fc.property(fc.array(fc.tuple(space, jsonObject)), fc.array(fc.nat()), (objects, places) => {
        const stream = new JsonObjects(bytesMax);
        const bytes = Buffer.from(objects.map(([before, text]) => before + text).join(""));
        const found = cut(bytes, places).flatMap((chunk) => stream.push(chunk));
        expect(found).toEqual(objects.map(([, text]) => text));
      }),
    );
  });

  it("returns no object before its last byte", () => {
    fc.assert(
      fc.property(jsonObject, (text) => {
        const bytes = Buffer.from(text);
        const stream = new JsonObjects(bytesMax);
        expect(stream.push(bytes.subarray(0, -1))).toEqual([]);
        expect(stream.push(bytes.subarray(-1))).toEqual([text]);
      }),
    );
  });

  it("refuses an object above its limit, in one chunk and in several", () => {
    const text = JSON.stringify({ a: "x".repeat(100) });
    const bytes = Buffer.from(text);
    expect(new JsonObjects(bytes.length).push(bytes)).toEqual([text]);
    const small = () => new JsonObjects(bytes.length - 1);
    expect(() => small().push(bytes)).toThrow("more than 107 bytes");
    const stream = small();
    expect(stream.push(bytes.subarray(0, 50))).toEqual([]);
    expect(() => stream.push(bytes.subarray(50))).toThrow("more than 107 bytes");
  });

  it("refuses a stream that has something between objects", () => {
    for (const text of ["[]", '{"a":1}x', "null", "}"])
      expect(() => new JsonObjects(bytesMax).push(Buffer.from(text))).toThrow("not a JSON object");
  });
});
