import { expect, it } from "vitest";
import { KeyedLock } from "./keyed-lock.ts";

it("runs one task at a time for each key, in order, even after a failure", async () => {
  const lock = new KeyedLock();
  const seen: string[] = [];
  let release: () => void = () => undefined;
  const first = lock.run("a", async () => {
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    seen.push("a1");
    throw new Error("failed");
  });
  const second = lock.run("a", async () => seen.push("a2"));
  await lock.run("b", async () => seen.push("b"));
  expect([lock.countWaiting("a"), lock.countWaiting("b")]).toEqual([1, 0]);
  expect([lock.isHeld("a"), lock.isHeld("b"), lock.isHeld("c")]).toEqual([true, false, false]);
  release();
  await expect(first).rejects.toThrow("failed");
  await second;
  expect(seen).toEqual(["b", "a1", "a2"]);
  expect(lock.isHeld("a")).toBe(false);
});

it("an aborted task leaves the queue immediately, and never runs", async () => {
  const lock = new KeyedLock();
  let release: () => void = () => undefined;
  const first = lock.run("a", () => new Promise<void>((resolve) => (release = resolve)));
  const controller = new AbortController();
  const seen: string[] = [];
  const second = lock.run("a", async () => seen.push("second"), controller.signal);
  const third = lock.run("a", async () => seen.push("third"));
  const reason = new Error("the caller left");
  controller.abort(reason);
  await expect(second).rejects.toBe(reason);
  expect(lock.countWaiting("a")).toBe(1);
  release();
  await Promise.all([first, third]);
  expect(seen).toEqual(["third"]);
  expect(lock.isHeld("a")).toBe(false);
});
