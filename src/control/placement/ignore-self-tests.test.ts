import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { findPoolsWithIgnoredSelfTest } from "./ignore-self-tests.ts";

const decide = (failedSelfTests: number, readyHosts: number, percentMax = 30) =>
  findPoolsWithIgnoredSelfTest([{ name: "default", failedSelfTests, readyHosts }], percentMax).has(
    "default",
  );

describe("failed self tests", () => {
  it("count for a single host, and for at most 30% of a pool", () => {
    expect([decide(0, 0), decide(1, 1), decide(1, 2), decide(3, 10)]).toEqual(
      Array<boolean>(4).fill(false),
    );
    expect([decide(2, 2), decide(4, 10), decide(10_000, 10_000)]).toEqual([true, true, true]);
  });

  it("are ignored exactly where a larger share fails, each pool on its own", () => {
    const hosts = fc.array(
      fc.record({ pool: fc.constantFrom("a", "b", "c"), isFailed: fc.boolean() }),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(hosts, fc.integer({ min: 0, max: 100 }), (fleet, percentMax) => {
        const of = (name: string) => fleet.filter(({ pool }) => pool === name);
        const pools = ["a", "b", "c"].map((name) => ({
          name,
          readyHosts: of(name).length,
          failedSelfTests: of(name).filter(({ isFailed }) => isFailed).length,
        }));
        const ignored = findPoolsWithIgnoredSelfTest(pools, percentMax);
        // The oracle removes hosts that fail until the share is permitted, and counts them.
        for (const { name, readyHosts, failedSelfTests } of pools) {
          let excess = 0;
          while (failedSelfTests - excess > (readyHosts * percentMax) / 100) excess++;
          expect(ignored.has(name)).toBe(failedSelfTests > 1 && excess > 0);
        }
      }),
    );
  });
});
