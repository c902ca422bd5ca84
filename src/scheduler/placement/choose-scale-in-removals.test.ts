import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  chooseScaleInRemovals,
  type ScaleInHost,
  type ScaleInSet,
  type ScaleInRemoval,
} from "./choose-scale-in-removals.ts";
import type { SpreadConstraint } from "./model.ts";
import { cpuMsSince, measureReferenceCpuMs } from "../../../test/support/cpu-speed.ts";

const byZone: SpreadConstraint[] = [{ by: "zone", maxSkew: 1 }];

describe("the removals of a scale-in", () => {
  it("leave no zone empty: 2/2/2 with maxSkew 1 becomes 2/1/1", () => {
    // Both sets of zone z3 are the newest.
    const hosts = [createHost("h1", "z1"), createHost("h2", "z2"), createHost("h3", "z3")];
    const sets = ["h1", "h1", "h2", "h2", "h3", "h3"].map((hostId, i) => createSet(i, hostId));
    const removals = chooseScaleInRemovals(sets, hosts, byZone, 2);
    expect(removals).toEqual([
      { setId: "set_5", hostId: "h3", reason: "spread" },
      { setId: "set_3", hostId: "h2", reason: "spread" },
    ]);
  });

  it("keep a required rule before a coarser preferred one", () => {
    const hosts = ["h1", "h2", "h4"].map((id) => createHost(id, "z1"));
    hosts.push(createHost("h3", "z2"));
    const sets = ["h3", "h3", "h1", "h2", "h4"].map((hostId, i) => createSet(i, hostId));
    const spread: SpreadConstraint[] = [
      { by: "zone", maxSkew: 1, mode: "preferred" },
      { by: "host", maxSkew: 1 },
    ];
    expect(chooseScaleInRemovals(sets, hosts, spread, 1)).toMatchObject([{ hostId: "h3" }]);
  });

  it("are sets that do not serve before sets that do: pending, failed, not ready", () => {
    const sets = [
      createSet(0, "h1", { isReady: false, state: "starting" }),
      createSet(1, "h1", { isReady: false, state: "failed" }),
      createSet(2, null, { isReady: false, state: "pending" }),
      createSet(3, "h1"),
      createSet(4, "h1"),
    ];
    const removals = chooseScaleInRemovals(sets, [createHost("h1", "z1")], [], 4);
    expect(removals.map(({ setId, reason }) => [setId, reason])).toEqual([
      ["set_2", "pending"],
      ["set_1", "failed"],
      ["set_0", "not-ready"],
      ["set_4", "newest"],
    ]);
  });

  it("begin with a set that a user stopped, unless it has volume data", () => {
    for (const isStoppedWithData of [false, true]) {
      const stopped = { isReady: false, desired: "stopped", state: "stopped" } as const;
      const sets = [
        createSet(0, "h1", { ...stopped, isStoppedWithData }),
        createSet(1, "h1"),
        createSet(2, "h1"),
      ];
      const removals = chooseScaleInRemovals(sets, [createHost("h1", "z1")], [], 1);
      expect(removals.map(({ setId, reason }) => [setId, reason])).toEqual([
        isStoppedWithData ? ["set_2", "newest"] : ["set_0", "stopped"],
      ]);
    }
  });

  it("end with a set that restores a volume, although it is the newest and not ready", () => {
    const sets = [
      createSet(0, "h1"),
      createSet(1, "h1"),
      createSet(2, "h1", { state: "starting", isReady: false, isRestoring: true }),
    ];
    const removals = chooseScaleInRemovals(sets, [createHost("h1", "z1")], [], 3);
    expect(removals.map(({ setId }) => setId)).toEqual(["set_1", "set_0", "set_2"]);
  });

  it("are sets on cordoned hosts, or that move, before newer ones", () => {
    const hosts = [createHost("h1", "z1", false), createHost("h2", "z1")];
    const sets = [createSet(0, "h1"), createSet(1, "h2", { isMoving: true }), createSet(2, "h2")];
    const removals = chooseScaleInRemovals(sets, hosts, [], 3);
    expect(removals.map(({ setId, reason }) => [setId, reason])).toEqual([
      ["set_1", "leaving-host"],
      ["set_0", "leaving-host"],
      ["set_2", "newest"],
    ]);
  });

  it("are not all sets of a zone whose host is cordoned while another zone has two", () => {
    const hosts = [createHost("h1", "z1", false), createHost("h2", "z2"), createHost("h3", "z3")];
    const sets = ["h1", "h1", "h2", "h2", "h3", "h3"].map((hostId, i) => createSet(i, hostId));
    for (const maxSkew of [1, 5]) {
      const spread = [{ by: "zone", maxSkew } as const];
      const removals = chooseScaleInRemovals(sets, hosts, spread, 2);
      expect(removals.map(({ setId }) => setId)).toEqual(["set_1", "set_5"]);
    }
  });

  it("keep hosts even within zones when the service spreads over both", () => {
    const hosts = ["h1", "h2"].map((id) => createHost(id, "z1"));
    const sets = [0, 1, 2].map((i) => createSet(i, "h1")).concat(createSet(3, "h2"));
    const spread: SpreadConstraint[] = [{ by: "host", maxSkew: 1 }, ...byZone];
    const removals = chooseScaleInRemovals(sets, hosts, spread, 3);
    expect(removals.map(({ setId }) => setId)).toEqual(["set_2", "set_1", "set_3"]);
  });

  it("are all sets when fewer exist than the scale-in removes, and none for a count of 0", () => {
    const sets = [
      createSet(0, "h_unknown"),
      createSet(1, null, { state: "pending", isReady: false }),
    ];
    expect(chooseScaleInRemovals(sets, [], byZone, 9)).toHaveLength(2);
    expect(chooseScaleInRemovals(sets, [], byZone, 0)).toEqual([]);
  });
});

describe("for any service, the choice", () => {
  const spreadArbitrary = fc.uniqueArray(
    fc.record({
      by: fc.constantFrom("zone", "rack", "host"),
      maxSkew: fc.integer({ min: 1, max: 3 }),
    }),
    { maxLength: 3, selector: ({ by }) => by },
  );
  const hostsArbitrary = fc.array(
    fc.record({
      zone: fc.constantFrom("z1", "z2", "z3"),
      rack: fc.constantFrom("r1", "r2"),
      acceptsSets: fc.boolean(),
    }),
    { minLength: 1, maxLength: 8 },
  );
  const setsArbitrary = fc.array(
    fc.record({
      host: fc.option(fc.nat({ max: 8 })), // one more than there are hosts: a host that was deleted
      state: fc.constantFrom("running", "running", "starting", "failed", "stopped"),
      desired: fc.constantFrom("running", "running", "stopped"),
      isReady: fc.boolean(),
      isMoving: fc.boolean(),
      hasData: fc.boolean(),
      isRestoring: fc.boolean(),
      createdAtMs: fc.nat({ max: 3 }),
    }),
    { maxLength: 24 },
  );
  const worldArbitrary = fc
    .tuple(setsArbitrary, hostsArbitrary, spreadArbitrary, fc.nat({ max: 24 }))
    .map(([sets, hosts, spread, count]) => ({
      sets: sets.map(({ host, hasData, ...set }, i): ScaleInSet => ({
        ...set,
        isStoppedWithData: hasData && set.desired === "stopped",
        id: `set_${String(i).padStart(2, "0")}`,
        hostId: host === null ? null : `h${host}`,
      })),
      hosts: hosts.map((host, i): ScaleInHost => ({ ...host, id: `h${i}` })),
      spread,
      count,
    }));

  it("is of so many different sets, and a smaller scale-in chooses the first of them", () => {
    fc.assert(
      fc.property(worldArbitrary, ({ sets, hosts, spread, count }) => {
        const removals = chooseScaleInRemovals(sets, hosts, spread, count);
        expect(new Set(removals.map(({ setId }) => setId)).size).toBe(Math.min(count, sets.length));
        const fewer = chooseScaleInRemovals(sets, hosts, spread, Math.floor(count / 2));
        expect(removals.slice(0, fewer.length)).toEqual(fewer);
      }),
    );
  });

  it("does not depend on the order of sets, hosts and rules", () => {
    fc.assert(
      fc.property(worldArbitrary, ({ sets, hosts, spread, count }) => {
        expect(
          chooseScaleInRemovals(sets.toReversed(), hosts.toReversed(), spread.toReversed(), count),
        ).toEqual(chooseScaleInRemovals(sets, hosts, spread, count));
      }),
    );
  });

  it("removes no set that serves while one remains that does not, unless it is stopped with volume data", () => {
    fc.assert(
      fc.property(worldArbitrary, ({ sets, hosts, spread, count }) => {
        const removals = chooseScaleInRemovals(sets, hosts, spread, count);
        const isIdle = ({
          hostId,
          isReady,
          desired,
          state,
          isStoppedWithData,
          isRestoring,
        }: ScaleInSet) =>
          hostId === null ||
          (!isStoppedWithData &&
            !isRestoring &&
            (desired === "stopped" || !isReady || state === "failed"));
        const removed = sets.filter((set) => isVictim(removals, set));
        const remaining = sets.filter((set) => !isVictim(removals, set));
        if (removed.some((set) => !isIdle(set))) expect(remaining.filter(isIdle)).toEqual([]);
      }),
    );
  });

  it("keeps maxSkew of the coarsest rule, and empties no domain while another has two sets", () => {
    fc.assert(
      fc.property(worldArbitrary, ({ sets: all, hosts, spread, count }) => {
        const sets = all.map((set): ScaleInSet => ({
          ...set,
          state: "running",
          desired: "running",
          isReady: true,
          isStoppedWithData: false,
          isRestoring: false,
        }));
        const rule = (["zone", "rack", "host"] as const).flatMap(
          (by) => spread.find((one) => one.by === by) ?? [],
        )[0];
        fc.pre(rule !== undefined);
        const getDomain = (set: ScaleInSet) => {
          const host = hosts.find(({ id }) => id === set.hostId);
          const zone = host?.zone ?? "";
          return { zone, rack: `${zone}/${host?.rack ?? ""}`, host: set.hostId ?? "" }[rule.by];
        };
        const hosted = sets.filter(({ hostId }) => hostId !== null);
        const domains = [...new Set(hosted.map(getDomain))];
        const sizes = (remaining: readonly ScaleInSet[]) =>
          domains.map((domain) => remaining.filter((set) => getDomain(set) === domain).length);
        const skew = (of: number[]) => Math.max(...of) - Math.min(...of);
        const removals = chooseScaleInRemovals(sets, hosts, spread, count);
        const after = sizes(hosted.filter((set) => !isVictim(removals, set)));
        const before = sizes(hosted);
        if (domains.length === 0) return;
        if (skew(before) <= rule.maxSkew) expect(skew(after)).toBeLessThanOrEqual(rule.maxSkew);
        if (after.includes(0)) expect(Math.max(...after)).toBeLessThan(2);
      }),
      { numRuns: 500 },
    );
  });
});

it("a scale-in of 20,000 sets on 5,000 hosts takes no quadratic time", () => {
  const hosts = Array.from({ length: 5_000 }, (_, i) => ({
    ...createHost(`h${i}`, `z${i % 3}`, i % 7 !== 0),
    rack: `r${i % 40}`,
  }));
  const sets = Array.from({ length: 20_000 }, (_, i) => createSet(i, `h${(i * 7) % 5_000}`));
  const spread = (["zone", "rack", "host"] as const).map((by) => ({ by, maxSkew: 1 }));
  const before = process.cpuUsage();
  expect(chooseScaleInRemovals(sets, hosts, spread, 19_999)).toHaveLength(19_999);
  const cpuMs = cpuMsSince(before);
  // It takes 0.2 to 0.7 s. A quadratic choice takes far longer than the limit.
  expect(cpuMs).toBeLessThan(12 * measureReferenceCpuMs());
});

function createSet(
  number: number,
  hostId: string | null,
  some: Partial<ScaleInSet> = {},
): ScaleInSet {
  return {
    id: `set_${number}`,
    hostId,
    state: "running",
    desired: "running",
    isReady: true,
    isMoving: false,
    isStoppedWithData: false,
    isRestoring: false,
    createdAtMs: number,
    ...some,
  };
}

function createHost(id: string, zone: string, acceptsSets = true): ScaleInHost {
  return { id, zone, rack: "r1", acceptsSets };
}

function isVictim(removals: readonly ScaleInRemoval[], set: ScaleInSet): boolean {
  return removals.some(({ setId }) => setId === set.id);
}
