import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { addOverhead, computeOverhead } from "./container-overhead.ts";

const MiB = 2 ** 20;
const logging = fc.record({
  driver: fc.constantFrom("json-file" as const, "local" as const),
  maxFiles: fc.integer({ min: 1, max: 20 }),
  maxSizeBytes: fc.integer({ min: 64 * 2 ** 10, max: 256 * MiB }),
});
const options = fc.array(fc.option(logging), { minLength: 1, maxLength: 20 });
const amount = fc.nat(2 ** 40);
const own = fc.record({
  cpuMillis: amount,
  memoryBytes: amount,
  volumeBytes: amount,
  rootfsBytes: amount,
});

describe("the overhead of a set", () => {
  it("is 8 MiB of memory and 20 MiB of logs for each container, and for infra", () => {
    expect(computeOverhead([null])).toEqual({ memoryBytes: 16 * MiB, rootfsBytes: 40 * MiB });
    expect(computeOverhead([null, undefined])).toEqual({
      memoryBytes: 24 * MiB,
      rootfsBytes: 60 * MiB,
    });
  });

  it("follows the sizes of the logs", () => {
    const small = { driver: "json-file" as const, maxFiles: 3, maxSizeBytes: MiB };
    expect(computeOverhead([small]).rootfsBytes).toBe(23 * MiB);
  });

  it("grows by each container's own part, in any order", () => {
    fc.assert(
      fc.property(options, options, (a, b) => {
        const infra = computeOverhead([]);
        const [ofA, ofB, ofBoth] = [a, b, [...b, ...a]].map(computeOverhead);
        expect(ofBoth).toEqual({
          memoryBytes: (ofA?.memoryBytes ?? 0) + (ofB?.memoryBytes ?? 0) - infra.memoryBytes,
          rootfsBytes: (ofA?.rootfsBytes ?? 0) + (ofB?.rootfsBytes ?? 0) - infra.rootfsBytes,
        });
      }),
    );
  });

  it("is booked in addition to the amounts of the set, in whole bytes", () => {
    fc.assert(
      fc.property(own, options, (set, logs) => {
        const overhead = computeOverhead(logs);
        const booked = addOverhead(set, overhead);
        const none = { cpuMillis: 0, volumeBytes: 0 };
        for (const dimension of Object.keys(set) as (keyof typeof set)[]) {
          expect(booked[dimension] - set[dimension]).toBe({ ...none, ...overhead }[dimension]);
          expect(Number.isSafeInteger(booked[dimension])).toBe(true);
        }
      }),
    );
  });
});
