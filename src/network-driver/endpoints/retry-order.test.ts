import { expect, it } from "vitest";
import { RetryOrder } from "./retry-order.ts";

it("tries failed keys after all others, and each of them before one fails twice more", () => {
  const order = new RetryOrder<string>();
  expect(order.take(["a", "b", "c", "d"], 2)).toEqual(["a", "b"]);
  expect([order.fail("a"), order.fail("b")]).toEqual([1, 1]);
  expect(order.take(["a", "b", "c", "d"], 3)).toEqual(["c", "d", "a"]);
  expect([order.fail("c"), order.fail("d"), order.fail("a")]).toEqual([1, 1, 2]);
  expect(order.take(["a", "b", "c", "d", "e"], 2)).toEqual(["e", "b"]);
  order.succeed("b");
  expect(order.take(["a", "b", "c"], 9)).toEqual(["b", "c", "a"]);
  // A key that was missing begins again.
  order.take(["b"], 9);
  expect(order.fail("a")).toBe(1);
});
