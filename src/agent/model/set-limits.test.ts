import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  containerLimits,
  isIoLimited,
  isLimited,
  isMemoryAndQuotaLimited,
  setLimits,
  toCpuShares,
  toCpuWeight,
  widenedLimits,
} from "./set-limits.ts";

const set = { cpuMillis: 1_500, memoryBytes: 256 * 2 ** 20 };

describe("limits of sets and containers", () => {
  it("follow the template within the bounds of the kernel and Docker", () => {
    expect(setLimits(set)).toEqual({
      cpuQuotaUs: 150_000,
      cpuShares: 1_536,
      memoryBytes: 256 * 2 ** 20,
      reservationBytes: 128 * 2 ** 20,
      pidsMax: 8_192,
    });
    const tiny = containerLimits({ cpuMillis: 1, memoryBytes: 2 ** 20 }, onePercent);
    expect(tiny).toEqual({
      cpuQuotaUs: 1_000,
      cpuShares: 2,
      memoryBytes: 6 * 2 ** 20,
      reservationBytes: 6 * 2 ** 20,
      pidsMax: 4_096,
    });
    expect(setLimits({ ...set, cpuMillis: 1_000_000 }).cpuShares).toBe(262_144);
  });

  it("convert shares to weights, and each weight there and back", () => {
    expect([2, 1_024, 262_144].map(toCpuWeight)).toEqual([1, 39, 10_000]);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), (weight) => {
        expect(toCpuWeight(toCpuShares(weight))).toBe(weight);
      }),
    );
  });

  it("separate sets by memory and quota, whatever the other limits are", () => {
    const wanted = setLimits(set);
    const other = { reservationBytes: 2 ** 20, pidsMax: 7, cpuShares: 2, cpuWeight: 3 };
    expect(isMemoryAndQuotaLimited({ ...wanted, ...other }, wanted)).toBe(true);
    expect(isMemoryAndQuotaLimited(undefined, wanted)).toBe(true);
    expect(isMemoryAndQuotaLimited({ ...wanted, cpuQuotaUs: 2_000 }, wanted)).toBe(false);
    expect(isMemoryAndQuotaLimited({ ...wanted, memoryBytes: 2 ** 20 }, wanted)).toBe(false);
  });

  it("accept both weights that container runtimes give the shares", () => {
    // Weights of runc 1.3.6 in the kernel, for the shares of 0.1, 0.5, 1, 2 and 16 cores.
    for (const [cpuMillis, weight] of [
      [100, 17],
      [500, 59],
      [1_000, 100],
      [2_000, 174],
      [16_000, 942],
    ] as const) {
      const wanted = setLimits({ ...set, cpuMillis });
      const seen = { ...wanted, cpuShares: toCpuShares(weight) };
      expect(isLimited({ ...seen, cpuWeight: weight }, wanted)).toBe(true);
      expect(isLimited({ ...seen, cpuWeight: toCpuWeight(wanted.cpuShares) }, wanted)).toBe(true);
      expect(isLimited({ ...seen, cpuWeight: weight + 2 }, wanted)).toBe(false);
    }
  });

  it("are equal after the kernel's rounding, and while they are unknown", () => {
    const wanted = setLimits(set);
    expect(isLimited(undefined, wanted)).toBe(true);
    const rounded = {
      cpuShares: toCpuShares(toCpuWeight(1_536)),
      memoryBytes: 256 * 2 ** 20 - 4_096,
    };
    expect(isLimited({ ...wanted, ...rounded }, wanted)).toBe(true);
    const unknown = { reservationBytes: undefined, pidsMax: undefined };
    expect(isLimited({ ...wanted, ...unknown }, wanted)).toBe(true);
    for (const other of [
      { cpuQuotaUs: Infinity },
      { cpuShares: 1_024 },
      { memoryBytes: Infinity },
      { reservationBytes: 0 },
      { pidsMax: Infinity },
    ])
      expect(isLimited({ ...wanted, ...other }, wanted)).toBe(false);
  });

  it("block I/O limits are equal if they are on each device that supports them, or unknown", () => {
    const wanted = { writeBytesPerSecond: 2 ** 20 };
    const seen = { readBytesPerSecond: Infinity, ...wanted };
    expect(isIoLimited(undefined, wanted)).toBe(true);
    expect(isIoLimited({ limits: [seen, seen] }, wanted)).toBe(true);
    expect(isIoLimited({ limits: [], unenforceableReason: "no such controller" }, wanted)).toBe(
      true,
    );
    expect(isIoLimited({ limits: [seen, {}] }, wanted)).toBe(false);
    expect(isIoLimited({ limits: [{ ...seen, readOpsPerSecond: 10 }] }, wanted)).toBe(false);
    expect(isIoLimited({ limits: [seen] }, undefined)).toBe(false);
    expect(isIoLimited({ limits: [{}] }, undefined)).toBe(true);
  });

  it("widen without a reduction of larger or removed limits", () => {
    const wanted = setLimits(set);
    expect(widenedLimits(undefined, wanted)).toEqual(wanted);
    const seen = { cpuQuotaUs: Infinity, cpuShares: 7, memoryBytes: 2 ** 20 };
    expect(widenedLimits(seen, wanted)).toEqual({ ...wanted, cpuQuotaUs: Infinity });
    expect(isLimited(seen, widenedLimits(seen, seen))).toBe(true);
  });
});

const onePercent = { cpuPercent: 1, memoryPercent: 1 };
