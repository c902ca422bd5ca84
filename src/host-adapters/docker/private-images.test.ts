import { expect, it } from "vitest";
import { isUsableBy } from "./private-images.ts";
import { toMark } from "./pulled-images.ts";

const tag = "registry.example.com/team/menu:1";
const digest = `registry.example.com/team/menu@sha256:${"0".repeat(64)}`;
const isUsable = (references: readonly string[], hasCredentials: boolean, reference = tag) =>
  isUsableBy(
    { id: "", references: [...references] },
    { reference, tenant: "food", hasCredentials },
  );

it("a pulled image without any mark needs a pull while a tenant has a credential", () => {
  expect(isUsable([tag, digest], true)).toBe(false);
  expect(isUsable([tag, digest], true, digest)).toBe(false);
  expect(isUsable([tag, digest], false)).toBe(true);
});

it("an image that was pulled without a credential, or loaded, needs no pull", () => {
  expect(isUsable([tag, digest, toMark(tag)], true)).toBe(true);
  expect(isUsable([tag], true)).toBe(true);
});

it("an image is found only by its names", () => {
  expect(isUsable([tag], false, "registry.example.com/team/menu:2")).toBe(false);
  expect(isUsable(["menu:latest"], false, "docker.io/library/menu")).toBe(true);
  for (const id of ["8bf", `sha256:${"0".repeat(64)}`])
    expect(isUsable([tag, digest], false, id)).toBe(false);
});
