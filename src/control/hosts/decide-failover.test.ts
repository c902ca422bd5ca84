import { expect, test } from "vitest";
import { decideFailover, type DownHost, OUTAGE_WINDOW_MS } from "./decide-failover.ts";

const minuteMs = 60_000;
const monthMs = 30 * 24 * 60 * minuteMs;

function downHost(id: string, downSinceMs: number, more: Partial<DownHost> = {}): DownHost {
  return {
    id,
    name: id,
    pool: "default",
    state: "lost",
    downSinceMs,
    isPastGrace: true,
    hasSetsToReplace: true,
    hasSetsToRun: true,
    ...more,
  };
}

function decide(hosts: DownHost[], ready: number) {
  const { replace, hold } = decideFailover(hosts, new Map([["default", ready]]), 30);
  return { replace: replace.map(({ id }) => id), hold: hold.map(({ host }) => host.id) };
}

test("one down host is replaced, however small its pool", () => {
  expect(decide([downHost("a", 0)], 1)).toEqual({ replace: ["a"], hold: [] });
});

test("hosts that go down together wait when they are a large share of their pool", () => {
  const hosts = [downHost("a", 0), downHost("b", minuteMs), downHost("c", 2 * minuteMs)];
  expect(decide(hosts, 7)).toEqual({ replace: ["a", "b", "c"], hold: [] });
  expect(decide(hosts, 6)).toEqual({ replace: [], hold: ["a", "b", "c"] });
});

test("hosts that went down together are not replaced after the outage window either", () => {
  const hosts = [downHost("a", -monthMs), downHost("b", -monthMs)];
  expect(decide(hosts, 2)).toEqual({ replace: [], hold: ["a", "b"] });
});

test("a host that went down long ago and still has a set does not delay the next failover", () => {
  const hosts = [downHost("a", -monthMs, { hasSetsToReplace: false }), downHost("b", 0)];
  expect(decide(hosts, 4)).toEqual({ replace: ["b"], hold: [] });
});

test("a host without sets counts neither as down nor as part of its pool", () => {
  const retired = [1, 2, 3].map((n) => downHost(`r${n}`, 0, { hasSetsToRun: false }));
  expect(decide([...retired, downHost("a", 0)], 2)).toEqual({ replace: ["a"], hold: [] });
  expect(decide([...retired, downHost("a", 0), downHost("b", 0)], 4).hold).toEqual(["a", "b"]);
});

test("hosts outside of one window are separate outages", () => {
  const hosts = [downHost("a", 0), downHost("b", OUTAGE_WINDOW_MS + 1)];
  expect(decide(hosts, 2)).toEqual({ replace: ["a", "b"], hold: [] });
});

test("a host within its grace period counts as down, and is not replaced yet", () => {
  const hosts = [downHost("a", 0), downHost("b", 1, { isPastGrace: false })];
  expect(decide(hosts, 2)).toEqual({ replace: [], hold: ["a"] });
});

test("pools do not affect each other", () => {
  const hosts = [downHost("a", 0), downHost("b", 0, { pool: "gpu" })];
  const ready = new Map([
    ["default", 1],
    ["gpu", 1],
  ]);
  expect(decideFailover(hosts, ready, 30).replace).toHaveLength(2);
});

test("10,000 down hosts are decided in linear time", () => {
  const hosts = Array.from({ length: 10_000 }, (_, n) => downHost(`h${n}`, n));
  expect(decideFailover(hosts, new Map([["default", 50_000]]), 30).replace).toHaveLength(10_000);
});
