import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createSlicesAbove } from "./slices-above.ts";

const { signal } = new AbortController();
let hostFolder: string;
beforeEach(async () => {
  hostFolder = await mkdtemp(join(tmpdir(), "berth-slices-"));
});
afterEach(() => rm(hostFolder, { recursive: true, force: true }));

it("a thousand sets that start together start the slices above them once", async () => {
  let starts = 0;
  const above = createSlicesAbove(hostFolder, async () => {
    starts += 1;
    await new Promise((resolve) => setImmediate(resolve));
  });
  await Promise.all(Array.from({ length: 1_000 }, () => above.ensure(signal)));
  expect(starts).toBe(1);
  expect(above.areReserved()).toBe(true);
  await rm(hostFolder, { recursive: true }); // they were stopped
  await Promise.all(Array.from({ length: 10 }, () => above.ensure(signal)));
  expect(starts).toBeLessThanOrEqual(3);
});

it("a failed start is not remembered", async () => {
  let starts = 0;
  const above = createSlicesAbove(hostFolder, async () => {
    starts += 1;
    if (starts === 1) throw new Error("systemd is busy");
  });
  await expect(above.ensure(signal)).rejects.toThrow("systemd is busy");
  expect(above.areReserved()).toBe(false);
  await above.ensure(signal);
  expect([starts, above.areReserved()]).toEqual([2, true]);
});

it("a set that is no longer wanted does not end the start for the others", async () => {
  const unwanted = new AbortController();
  const above = createSlicesAbove(hostFolder, async (startSignal) => {
    unwanted.abort(new Error("the set was deleted"));
    await new Promise((resolve) => setImmediate(resolve));
    startSignal.throwIfAborted();
  });
  const first = above.ensure(unwanted.signal).catch(() => undefined);
  await above.ensure(signal);
  await first;
  expect(above.areReserved()).toBe(true);
});
