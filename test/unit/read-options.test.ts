import { expect, it } from "vitest";
import { readOptions } from "../bench/read-options.ts";

const defaults = { rounds: 5, "one-api": false, profile: undefined };

it("a benchmark has its defaults without options", () => {
  expect(readOptions([], defaults)).toEqual(defaults);
  expect(readOptions(undefined, defaults)).toEqual(defaults);
});

it("options replace defaults by their types", () => {
  const args = ["--rounds", "3", "--one-api", "--profile=/tmp/profile"];
  const given = { rounds: 3, "one-api": true, profile: "/tmp/profile" };
  expect(readOptions(args, defaults)).toEqual(given);
});

it("an unknown option, or a number that is none, starts no benchmark", () => {
  expect(() => readOptions(["--round", "3"], defaults)).toThrow("--round");
  for (const text of ["three", "-1", "", "Infinity"])
    expect(() => readOptions([`--rounds=${text}`], defaults)).toThrow("--rounds must be a number");
});
