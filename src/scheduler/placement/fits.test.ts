import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { amounts, hostOf, policyOf } from "../../../test/support/fleet/scheduler-world.ts";
import { fits, fitsHost, computeFreeCapacity, findShortage } from "./fits.ts";
import { dimensions } from "./model.ts";

const [pool] = policyOf({ overcommitPercent: amounts(150), highWaterPercent: amounts(80) }).pools;
if (!pool) throw new Error("the policy has a pool");

const some = fc.record({
  cpuMillis: fc.integer({ min: 0, max: 120 }),
  memoryBytes: fc.integer({ min: 0, max: 120 }),
  volumeBytes: fc.integer({ min: 0, max: 120 }),
  rootfsBytes: fc.integer({ min: 0, max: 120 }),
});

describe("the fit of a set", () => {
  test("is the same for the planner, for a locked row and for each dimension", () => {
    fc.assert(
      fc.property(some, some, some, some, (allocated, used, unreported, requested) => {
        const host = hostOf("host_a", {
          allocated,
          reported: { used, atMs: 0 },
          unreported,
        });
        const isInPlanner = fits(
          computeFreeCapacity(host, pool),
          0,
          Float64Array.from(dimensions, (dimension) => requested[dimension]),
        );
        const short = dimensions.filter((dimension) =>
          findShortage(host, pool, dimension, requested[dimension]),
        );
        expect(isInPlanner).toBe(short.length === 0);
        expect(fitsHost(host, pool, requested)).toMatchObject(
          short.length === 0 ? { ok: true } : { ok: false, dimension: short[0] },
        );
      }),
    );
  });

  test("names bookings or measured usage as the cause, and the shortage", () => {
    const requested = amounts(0, { memoryBytes: 30 });
    const booked = hostOf("host_a", { allocated: amounts(0, { memoryBytes: 125 }) });
    expect(fitsHost(booked, pool, requested)).toEqual({
      ok: false,
      dimension: "memoryBytes",
      reason: "insufficient-memory",
      shortBy: 5,
    });
    const busy = hostOf("host_a", { reported: { used: amounts(60), atMs: 0 } });
    expect(fitsHost(busy, pool, requested)).toMatchObject({
      reason: "above-high-water-memory",
      shortBy: 10,
    });
  });

  test("ignores a dimension of which 0 is requested, even if it is overbooked", () => {
    const overfull = hostOf("host_a", { allocated: amounts(500) });
    expect(fitsHost(overfull, pool, amounts(0))).toEqual({ ok: true });
  });

  test("counts trashed volumes as free, and only the bookings of a host without a report", () => {
    const trashed = hostOf("host_a", {
      reported: { used: amounts(80), atMs: 0 },
      reclaimableVolumeBytes: 50,
    });
    expect(fitsHost(trashed, pool, amounts(0, { volumeBytes: 50 }))).toEqual({ ok: true });
    expect(fitsHost(trashed, pool, amounts(0, { volumeBytes: 51 })).ok).toBe(false);
    expect(fitsHost(hostOf("host_a", { reported: undefined }), pool, amounts(80))).toEqual({
      ok: true,
    });
  });
});
