import { expect, it } from "vitest";
import { withTimeout } from "./with-timeout.ts";

it("gives what the work gives when it is in time", async () => {
  expect(await withTimeout(Promise.resolve(7), 1_000, "late")).toBe(7);
  await expect(withTimeout(Promise.reject(new Error("no")), 1_000, "late")).rejects.toThrow("no");
});

it("gives the other value when the work is late, and ignores a late failure", async () => {
  let fail = (_error: Error): void => undefined;
  const work = new Promise<number>((_resolve, reject) => {
    fail = reject;
  });
  expect(await withTimeout(work, 10, "late")).toBe("late");
  fail(new Error("too late to matter")); // an unhandled rejection would fail this run
  await new Promise((resolve) => setImmediate(resolve));
});
