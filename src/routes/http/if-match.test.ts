import { expect, it } from "vitest";
import { AppError } from "../../contracts/common/app-error.ts";
import { etagOf, generationOf, requiredGenerationOf } from "./if-match.ts";

it.each([
  ['"7"', 7],
  ["7", 7],
  ['W/"7"', 7],
  ["*", undefined],
  [undefined, undefined],
])("If-Match %s is generation %s", (tag, generation) => {
  expect(generationOf(tag)).toBe(generation);
});

it.each(["", "seven", '"1", "2"', "-1", "1.5", '"9999999999999999999"'])(
  "If-Match %j is refused",
  (tag) => {
    expect(() => generationOf(tag)).toThrow(AppError);
  },
);

it("where it is required, absent and * do not do", () => {
  expect(() => requiredGenerationOf(undefined)).toThrow(/generation-required/);
  expect(() => requiredGenerationOf("*")).toThrow(/generation-required/);
  expect(requiredGenerationOf(etagOf({ generation: 3 }))).toBe(3);
});
