import { expect, it } from "vitest";
import { cutText } from "./truncate.ts";

it("cuts no character in half, and nothing that is short enough", () => {
  expect(cutText("menu-😀-web", 6)).toBe("menu-");
  expect(cutText("menu-😀-web", 7)).toBe("menu-😀");
  expect(cutText("menu-😀-web", 8)).toBe("menu-😀-");
  expect(cutText("menu", 10)).toBe("menu");
});
