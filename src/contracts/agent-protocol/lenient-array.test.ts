import { expect, it } from "vitest";
import { z } from "zod";
import { lenientList } from "./lenient-array.ts";

it("parses each item of a complete list once, and replaces an invalid item by null", () => {
  const seen: string[] = [];
  const item = z
    .strictObject({ id: z.string() })
    .strip()
    .refine(({ id }) => seen.push(id) > 0)
    .transform(({ id }) => ({ id: id.toUpperCase() }));
  const list = lenientList(item, 4);
  expect(list.parse([{ id: "a" }, { id: 7 }, undefined, { id: "b", more: true }])).toEqual([
    { id: "A" },
    null,
    null,
    { id: "B" },
  ]);
  expect(seen).toEqual(["a", "b"]);
});

it("rejects a list that is too long, and a value that is not a list", () => {
  const list = lenientList(z.string(), 2);
  expect(list.safeParse(["a", 1, "b"]).success).toBe(false);
  expect(list.safeParse("a").success).toBe(false);
  expect(list.safeParse(null).success).toBe(false);
});
