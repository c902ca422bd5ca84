import { expect, it } from "vitest";
import { chooseVersion } from "./docker-api.ts";

it.each([
  ["Docker 20.10", "1.41", "1.12", "1.41"],
  ["Docker 26.1", "1.45", "1.24", "1.45"],
  ["Docker 28.5", "1.51", "1.24", "1.51"],
  ["Docker 29", "1.52", "1.44", "1.51"],
  ["a later Docker", "1.60", "1.44", "1.51"],
])("uses the newest common version with %s", (_docker, newest, oldest, chosen) => {
  expect(chooseVersion(newest, oldest)).toBe(chosen);
});

it.each([
  ["too old", "1.40", "1.12"],
  ["too new", "1.70", "1.52"],
])("refuses a daemon that is %s", (_what, newest, oldest) => {
  expect(() => chooseVersion(newest, oldest)).toThrow("1.41 to 1.51");
});
