import { expect, it } from "vitest";
import { FreeAddressCounts } from "./free-addresses.ts";

it("counts each subnet once, however many requests name it, and each placement", () => {
  const counts = new FreeAddressCounts();
  const both = [
    { id: "sub_a", free: 2 },
    { id: "sub_b", free: 1 },
  ];
  expect(counts.add(both)).toEqual(["sub_a", "sub_b"]);
  expect(counts.isExhausted(["sub_a", "sub_b"])).toBe(false);
  counts.notePlaced(["sub_a", "sub_b"]);
  counts.add(both);
  expect(counts.isExhausted(["sub_a"])).toBe(false);
  expect(counts.isExhausted(["sub_a", "sub_b"])).toBe(true);
});

it("has no address of a subnet that no request has named", () => {
  const counts = new FreeAddressCounts();
  expect(counts.isExhausted(["sub_a"])).toBe(true);
  counts.notePlaced(["sub_a"]);
  expect(counts.isExhausted(["sub_a"])).toBe(true);
  expect(counts.isExhausted([])).toBe(false);
});
