import { describe, expect, it } from "vitest";
import { callBackoff, computeBackoffMs, repeatBackoff, stepBackoff } from "./backoff.ts";

describe("the backoff", () => {
  it.each([stepBackoff, repeatBackoff, callBackoff])("is within %j", (bounds) => {
    const waits = [1, 2, 3, 100, 10_000].map((inRow) => computeBackoffMs(bounds, inRow));
    const { minMs, maxMs } = bounds;
    expect(waits).toEqual([minMs, minMs * 2, minMs * 4, maxMs, maxMs]);
  });

  it("is between the half and the whole with jitter", () => {
    expect(computeBackoffMs({ minMs: 1_000, maxMs: 60_000 }, 1, 0)).toBe(500);
    expect(computeBackoffMs({ minMs: 1_000, maxMs: 60_000 }, 1, 0.999_999)).toBe(1_000);
  });
});
