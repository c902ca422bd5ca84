import { expect, it } from "vitest";
import { KeyedLock } from "./keyed-lock.ts";

it("one at a time for each key, in order, also after a failure; others do not wait", async () => {
  const lock = new KeyedLock();
  const told: string[] = [];
  let release: () => void = () => undefined;
  const first = lock.run("a", async () => {
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    told.push("a1");
    throw new Error("failed");
  });
  const second = lock.run("a", async () => told.push("a2"));
  await lock.run("b", async () => told.push("b"));
  expect([lock.isHeld("a"), lock.isHeld("b"), lock.isHeld("c")]).toEqual([true, false, false]);
  release();
  await expect(first).rejects.toThrow("failed");
  await second;
  expect(told).toEqual(["b", "a1", "a2"]);
  expect(lock.isHeld("a")).toBe(false);
});
