import { expect, it } from "vitest";
import { parseCpuList, toCpuMask } from "./cpu-list.ts";

it("reads single processors and ranges, in any order", () => {
  expect(parseCpuList("0-3,7\n")).toEqual([0, 1, 2, 3, 7]);
  expect(parseCpuList("7, 2-2,2")).toEqual([2, 7]);
  for (const text of ["", "a", "3-1", "1-", "-1", "1;2", "4096", "0-99999"])
    expect([text, parseCpuList(text)]).toEqual([text, undefined]);
});

it("makes a mask of any number of processors", () => {
  expect([[], [0], [1, 2], [64]].map(toCpuMask)).toEqual([
    "0x0",
    "0x1",
    "0x6",
    "0x10000000000000000",
  ]);
});
