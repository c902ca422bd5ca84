import fc from "fast-check";
import { expect, test } from "vitest";
import { formatPortRange, mergePortRanges, parsePortRange } from "./port-ranges.ts";

test("reads a port and a range", () => {
  expect(parsePortRange("80")).toEqual({ first: 80, last: 80 });
  expect(parsePortRange("8000-8099")).toEqual({ first: 8000, last: 8099 });
  expect(parsePortRange("1-65535")).toEqual({ first: 1, last: 65_535 });
});

test.each(["0", "", "65536", "90-80", "080", "80-", "-80", "1-2-3", " 80", "80\n", "0x50", "8e1"])(
  "refuses %j",
  (text) => {
    expect(parsePortRange(text)).toBeUndefined();
  },
);

test("merges ranges that overlap or touch, and the ports stay the same", () => {
  const range = fc
    .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 9 }))
    .map(([first, more]) => ({ first, last: first + more }));
  const listPorts = (ranges: readonly { first: number; last: number }[]) =>
    Array.from({ length: 80 }, (_, port) => port).filter((port) =>
      ranges.some(({ first, last }) => first <= port && port <= last),
    );
  fc.assert(
    fc.property(fc.array(range, { maxLength: 8 }), (ranges) => {
      const merged = mergePortRanges(ranges);
      expect(listPorts(merged)).toEqual(listPorts(ranges));
      for (const [place, { first }] of merged.entries())
        expect(first).toBeGreaterThan((merged[place - 1]?.last ?? -1) + 1);
      for (const each of merged) expect(parsePortRange(formatPortRange(each))).toEqual(each);
    }),
  );
});
