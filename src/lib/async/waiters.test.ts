import { expect, test } from "vitest";
import { Waiters } from "./waiters.ts";

const MINUTE_MS = 60_000;

test("all waits end at a wake-up, and later ones wait for the next", async () => {
  const waiters = new Waiters();
  const { signal } = new AbortController();
  const waits = [waiters.wait(MINUTE_MS, signal), waiters.wait(MINUTE_MS, signal)];
  waiters.wakeAll();
  await Promise.all(waits);
  const aborted = new AbortController();
  const later = waiters.wait(MINUTE_MS, aborted.signal).then(() => "ended");
  expect(await Promise.race([later, Promise.resolve("waits")])).toBe("waits");
  aborted.abort();
  expect(await later).toBe("ended");
});

test("a wait ends after its time, and immediately if its signal has aborted", async () => {
  const waiters = new Waiters();
  const waits = [
    waiters.wait(1, new AbortController().signal),
    waiters.wait(MINUTE_MS, AbortSignal.abort()),
  ];
  await expect(Promise.all(waits)).resolves.toHaveLength(2);
});
