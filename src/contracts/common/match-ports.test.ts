import fc from "fast-check";
import { expect, it } from "vitest";
import { hasMorePortMatches, matchPorts } from "./match-ports.ts";

const portArbitrary = fc.integer({ min: 1, max: 65_535 });
const rangeArbitrary = fc
  .tuple(portArbitrary, fc.oneof(portArbitrary, fc.integer({ min: 0, max: 20 })))
  .map(([first, other]) =>
    other < 21
      ? { first, last: Math.min(65_535, first + other) }
      : { first: Math.min(first, other), last: Math.max(first, other) },
  );

function covers(match: string, port: number): boolean {
  const [value, mask = "0xffff"] = match.split("/");
  return (port & Number(mask)) === Number(value);
}

it("covers exactly the ports of the ranges, each once", () => {
  fc.assert(
    fc.property(
      fc.array(rangeArbitrary, { maxLength: 4 }),
      fc.array(portArbitrary, { maxLength: 20 }),
      (ranges, others) => {
        const matches = matchPorts(ranges);
        const edges = ranges.flatMap(({ first, last }) => [first - 1, first, last, last + 1]);
        for (const port of [...edges, ...others]) {
          const isWanted = ranges.some(({ first, last }) => first <= port && port <= last);
          expect(matches.filter((match) => covers(match, port))).toHaveLength(isWanted ? 1 : 0);
        }
        expect(matches.length).toBeLessThanOrEqual(30 * ranges.length);
      },
    ),
  );
});

it("counts matches up to a bound", () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(rangeArbitrary, { maxLength: 4 }), { maxLength: 5 }),
      fc.integer({ min: 0, max: 100 }),
      (sets, max) => {
        const count = sets.flatMap((ranges) => matchPorts(ranges)).length;
        expect(hasMorePortMatches(sets, max)).toBe(count > max);
      },
    ),
  );
});

it("uses one match for a port, and one for an aligned block", () => {
  expect(matchPorts([{ first: 80, last: 80 }])).toEqual(["80"]);
  expect(matchPorts([{ first: 8_192, last: 16_383 }])).toEqual(["0x2000/0xe000"]);
  expect(matchPorts([{ first: 80, last: 81 }])).toEqual(["0x50/0xfffe"]);
  const halves = [
    { first: 81, last: 81 },
    { first: 80, last: 80 },
  ];
  expect(matchPorts(halves)).toEqual(["0x50/0xfffe"]);
});
