import { expect, it } from "vitest";
import { coalesce } from "./coalesce.ts";

/** Work whose runs end when the test ends them. */
function controlled() {
  const runs: { end: (value: number) => void; fail: (error: Error) => void }[] = [];
  const call = coalesce(
    () =>
      new Promise<number>((resolve, reject) => {
        runs.push({ end: resolve, fail: reject });
      }),
  );
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return { runs, call, settle };
}

it("calls during a run share the next run, which starts after it", async () => {
  const { runs, call, settle } = controlled();
  const first = call();
  const later = Array.from({ length: 1_000 }, () => call());
  await settle();
  expect(runs).toHaveLength(1);
  runs[0]?.end(1);
  expect(await first).toBe(1);
  await settle();
  expect(runs).toHaveLength(2);
  // The run has started, so it cannot serve a later call.
  const latest = call();
  runs[1]?.end(2);
  expect(new Set(await Promise.all(later))).toEqual(new Set([2]));
  await settle();
  expect(runs).toHaveLength(3);
  runs[2]?.end(3);
  expect(await latest).toBe(3);
});

it("a run that fails fails for its callers only", async () => {
  const { runs, call, settle } = controlled();
  const first = call();
  const second = call();
  runs[0]?.fail(new Error("no database"));
  await expect(first).rejects.toThrow("no database");
  await settle();
  runs[1]?.end(2);
  expect(await second).toBe(2);
});

it("a call starts immediately if no run is in progress", async () => {
  const { runs, call, settle } = controlled();
  const first = call();
  runs[0]?.end(1);
  await first;
  await settle();
  void call();
  expect(runs).toHaveLength(2);
  runs[1]?.end(2);
});

/** Callers of a run that begins after another one. Returns the signal of their run. */
async function shareRun(signals: readonly (AbortSignal | undefined)[]) {
  const received: (AbortSignal | undefined)[] = [];
  let endFirst = (): void => undefined;
  const call = coalesce((signal) => {
    received.push(signal);
    return received.length > 1
      ? new Promise<void>(() => undefined)
      : new Promise<void>((resolve) => (endFirst = resolve));
  });
  void call();
  for (const signal of signals) void call(signal);
  endFirst();
  await new Promise((resolve) => setImmediate(resolve));
  expect(received).toHaveLength(2);
  return received[1];
}

it("a run aborts once all its callers have aborted", async () => {
  const callers = [new AbortController(), new AbortController(), new AbortController()];
  callers[0]?.abort(); // before the run begins
  const signal = await shareRun(callers.map((caller) => caller.signal));
  callers[1]?.abort();
  expect(signal?.aborted).toBe(false);
  callers[2]?.abort();
  expect(signal?.aborted).toBe(true);
});

it.each(["first", "last"])(
  "a %s caller without a signal keeps a run from aborting",
  async (place) => {
    const caller = new AbortController();
    const signals = [undefined, caller.signal];
    const signal = await shareRun(place === "first" ? signals : signals.toReversed());
    caller.abort();
    expect(signal?.aborted ?? false).toBe(false);
  },
);

it("a run without other callers has the signal of its caller, even before it begins", async () => {
  const signal = await shareRun([AbortSignal.abort()]);
  expect(signal?.aborted).toBe(true);
});
