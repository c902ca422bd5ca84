import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { createFairLimit } from "./fair-limit.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** Calls that run until the test ends them. */
function controlledCalls(options: Partial<Parameters<typeof createFairLimit>[0]> = {}) {
  const limit = createFairLimit({
    callsMax: 2,
    slowMs: 1_000,
    slowMax: 2,
    callsPerKeyMax: 10,
    ...options,
  });
  const started: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const run = (name: string) => {
    const [key = ""] = name.split("-");
    const ran = limit(key, () => {
      started.push(name);
      return new Promise<void>((resolve, reject) => {
        ends.set(name, (error) => (error ? reject(error) : resolve()));
      });
    });
    ran.catch(() => undefined);
    return ran;
  };
  const end = async (name: string, error?: Error) => {
    ends.get(name)?.(error);
    await vi.advanceTimersByTimeAsync(0);
  };
  return { run, end, started };
}

it("runs calls of one key in their order, and at most callsMax of them", async () => {
  const { run, end, started } = controlledCalls();
  for (const name of ["a-1", "a-2", "a-3", "a-4"]) void run(name);
  expect(started).toEqual(["a-1", "a-2"]);
  await end("a-2");
  expect(started).toEqual(["a-1", "a-2", "a-3"]);
});

it("lets keys take turns", async () => {
  const { run, end, started } = controlledCalls();
  for (const name of ["a-1", "a-2", "a-3", "a-4", "b-1", "c-1", "b-2"]) void run(name);
  for (const name of ["a-1", "a-2", "a-3", "b-1", "c-1"]) await end(name);
  expect(started).toEqual(["a-1", "a-2", "a-3", "b-1", "c-1", "a-4", "b-2"]);
});

it("admits the next call when one is slow, up to slowMax", async () => {
  const { run, started } = controlledCalls();
  for (let i = 1; i <= 9; i++) void run(`a-${i}`);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(started).toHaveLength(4);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(started).toHaveLength(4);
});

it("bounds the calls of one key, and other keys pass it", async () => {
  const { run, end, started } = controlledCalls({ callsMax: 5, callsPerKeyMax: 2 });
  for (const name of ["a-1", "a-2", "a-3", "b-1"]) void run(name);
  expect(started).toEqual(["a-1", "a-2", "b-1"]);
  await end("b-1");
  expect(started).toEqual(["a-1", "a-2", "b-1"]);
  await end("a-1");
  expect(started).toEqual(["a-1", "a-2", "b-1", "a-3"]);
});

it("releases the slot of a call that fails", async () => {
  const { run, end, started } = controlledCalls({ callsMax: 1 });
  const failed = run("a-1");
  void run("a-2");
  await vi.advanceTimersByTimeAsync(2_000);
  await end("a-1", new Error("refused"));
  await expect(failed).rejects.toThrow("refused");
  expect(started).toEqual(["a-1", "a-2"]);
  await end("a-2");
  void run("a-3");
  expect(started).toEqual(["a-1", "a-2", "a-3"]);
});
