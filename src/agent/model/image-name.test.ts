import { expect, test } from "vitest";
import { familiarName } from "./image-name.ts";

const digest = `@sha256:${"0a".repeat(32)}`;

test.each([
  ["menu", "menu:latest"],
  ["menu:42", "menu:42"],
  ["docker.io/library/menu:42", "menu:42"],
  ["index.docker.io/library/menu", "menu:latest"],
  ["docker.io/team/menu", "team/menu:latest"],
  ["registry:5000/library/menu", "registry:5000/library/menu:latest"],
  ["registry:5000/team/menu:42", "registry:5000/team/menu:42"],
  [`menu${digest}`, `menu${digest}`],
  [`registry:5000/menu:42${digest}`, `registry:5000/menu${digest}`],
])("the daemon lists %s as %s", (reference, listed) => {
  expect(familiarName(reference)).toBe(listed);
});
