import { expect, it } from "vitest";
import { truncate } from "./truncate.ts";

it("splits no character, and leaves short texts unchanged", () => {
  expect(truncate("menu-😀-web", 6)).toBe("menu-");
  expect(truncate("menu-😀-web", 7)).toBe("menu-😀");
  expect(truncate("menu-😀-web", 8)).toBe("menu-😀-");
  expect(truncate("menu", 10)).toBe("menu");
});
