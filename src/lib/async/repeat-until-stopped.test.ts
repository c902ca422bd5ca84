import { expect, test } from "vitest";
import { repeatUntilStopped } from "./repeat-until-stopped.ts";

test("runs do not overlap, a failed run does not end them, and stop waits for the current run", async () => {
  let running = 0;
  let overlaps = 0;
  let runs = 0;
  const errors: unknown[] = [];
  let resolveThird = (): void => undefined;
  const third = new Promise<void>((resolve) => (resolveThird = resolve));
  const repeated = repeatUntilStopped(
    async () => {
      overlaps += running++;
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      if (++runs === 3) resolveThird();
      if (runs === 2) throw new Error("the second run fails");
    },
    1,
    (error) => errors.push(error),
  );
  await third;
  await repeated.stop();
  expect({ running, overlaps }).toEqual({ running: 0, overlaps: 0 });
  expect(errors).toEqual([new Error("the second run fails")]);
  const runsAtStop = runs;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(runs).toBe(runsAtStop);
});
