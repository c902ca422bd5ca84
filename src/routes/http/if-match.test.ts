import { expect, it } from "vitest";
import { AppError } from "../../contracts/common/app-error.ts";
import { toEtag, parseIfMatch, parseRequiredIfMatch } from "./if-match.ts";

it.each([
  ['"7"', 7],
  ["7", 7],
  ['W/"7"', 7],
  ["*", undefined],
  [undefined, undefined],
])("reads If-Match %s as generation %s", (tag, generation) => {
  expect(parseIfMatch(tag)).toBe(generation);
});

it.each(["", "seven", '"1", "2"', "-1", "1.5", '"9999999999999999999"'])(
  "rejects If-Match %j",
  (tag) => {
    expect(() => parseIfMatch(tag)).toThrow(AppError);
  },
);

it("rejects a missing header and * if the generation is required", () => {
  expect(() => parseRequiredIfMatch(undefined)).toThrow(/generation-required/);
  expect(() => parseRequiredIfMatch("*")).toThrow(/generation-required/);
  expect(parseRequiredIfMatch(toEtag({ generation: 3 }))).toBe(3);
});
