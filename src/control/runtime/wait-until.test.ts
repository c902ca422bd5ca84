import { expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import { defaultControlSettings, type ControlContext, type Signals } from "./context.ts";
import { pollUntil } from "./wait-until.ts";

const channel = "service:svc_1";
const never = new AbortController().signal;

/** Only signals are used by what is tested here; everything else would throw. */
function contextWith(waitFor: Signals["waitFor"]): ControlContext {
  const signals: Signals = { publish: async () => undefined, waitFor };
  return { signals, log: silentLog, settings: defaultControlSettings } as ControlContext;
}

it("reads after each wait of at most a second, because signals may be lost", async () => {
  const waits: number[] = [];
  let looks = 0;
  const ctx = contextWith(async (_channel, timeoutMs) => {
    waits.push(timeoutMs);
    return false;
  });
  const value = await pollUntil(ctx, channel, 60_000, never, async () => {
    looks += 1;
    return { isDone: looks === 5, value: looks };
  });
  expect(value).toBe(5);
  expect(waits).toHaveLength(5);
  expect(Math.max(...waits)).toBeLessThanOrEqual(1_000);
});

it("waits and pauses as long as its limits say", async () => {
  const waits: number[] = [];
  const ctx = contextWith(async (_channel, timeoutMs) => {
    waits.push(timeoutMs);
    return true;
  });
  const readAt: number[] = [];
  const read = async () => {
    readAt.push(performance.now());
    return { isDone: readAt.length === 4, value: undefined };
  };
  await pollUntil(ctx, channel, Number.POSITIVE_INFINITY, never, read, {
    pollMsMax: 5_000,
    readGapMs: 50,
  });
  expect(waits).toEqual([5_000, 5_000, 5_000, 5_000]);
  const gaps = readAt.slice(1).map((at, index) => at - (readAt[index] ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(48);
});

it("subscribes before it reads, so that it misses no change", async () => {
  const order: string[] = [];
  const ctx = contextWith(async () => {
    order.push("subscribe");
    return true;
  });
  await pollUntil(ctx, channel, 60_000, never, async () => {
    order.push("look");
    return { isDone: order.length > 2, value: undefined };
  });
  expect(order).toEqual(["subscribe", "look", "subscribe", "look"]);
});

it("reads once without a wait if no time is left", async () => {
  const ctx = contextWith(() => Promise.reject(new Error("must not wait")));
  const look = async () => ({ isDone: false, value: "seen" });
  expect(await pollUntil(ctx, channel, 0, never, look)).toBe("seen");
});

it("returns the last value when it is aborted", async () => {
  const abort = new AbortController();
  const ctx = contextWith(async () => {
    abort.abort();
    return false;
  });
  let looks = 0;
  await pollUntil(ctx, channel, 60_000, abort.signal, async () => {
    looks += 1;
    return { isDone: false, value: looks };
  });
  expect(looks).toBeLessThanOrEqual(2);
});

it("ends its wait, even if a read throws", async () => {
  const signals: AbortSignal[] = [];
  const ctx = contextWith(async (_channel, _timeoutMs, signal) => {
    if (signal) signals.push(signal);
    return false;
  });
  const failing = pollUntil(ctx, channel, 60_000, never, () => Promise.reject(new Error("away")));
  await expect(failing).rejects.toThrow("away");
  expect(signals.map((signal) => signal.aborted)).toEqual([true]);
});

it("reads at most ten times a second after ten reads, however often it is signaled", async () => {
  const ctx = contextWith(async () => true);
  const readAtMs: number[] = [];
  await pollUntil(ctx, channel, 60_000, never, async () => {
    readAtMs.push(performance.now());
    return { isDone: readAtMs.length === 13, value: undefined };
  });
  const gaps = readAtMs.slice(1).map((atMs, index) => atMs - (readAtMs[index] ?? 0));
  expect(Math.min(...gaps.slice(0, 9))).toBeGreaterThan(8);
  expect(Math.min(...gaps.slice(0, 9))).toBeLessThan(90);
  expect(Math.min(...gaps.slice(9))).toBeGreaterThan(95);
});

it("repeats a slow read after five times its duration", async () => {
  const ctx = contextWith(async () => true);
  const readAtMs: number[] = [];
  await pollUntil(ctx, channel, 60_000, never, async () => {
    readAtMs.push(performance.now());
    await new Promise((resolve) => setTimeout(resolve, 80));
    return { isDone: readAtMs.length === 3, value: undefined };
  });
  const gaps = readAtMs.slice(1).map((atMs, index) => atMs - (readAtMs[index] ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThan(380);
});
