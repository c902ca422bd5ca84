import { setTimeout as pause } from "node:timers/promises";
import { expect, it } from "vitest";
import type { FleetNetwork } from "../../db/queries/networks/host-networks.ts";
import { createLocalSignals } from "../../../test/support/fakes/local-signals.ts";
import { waitUntil } from "../../../test/support/wait-until.ts";
import { silentLog } from "../../lib/log.ts";
import type { ControlContext } from "../runtime/context.ts";
import { NetworkFeeds } from "./network-feeds.ts";

const NETWORK_ID = "net_1";
const limits = { settleMs: 5, readGapMs: 20, pollMs: 60_000, retryMs: 20, lingerMs: 40 };
const never = new AbortController().signal;

/** Feeds of a network whose rows a test changes, with real signals and no database. */
function openFeeds(options: { lossy?: boolean; pollMs?: number } = {}) {
  const signals = createLocalSignals({ lossy: options.lossy ?? false });
  // Only signals and the log are used: the read replaces the database.
  const ctx = { signals, log: silentLog, db: undefined } as unknown as ControlContext;
  const world = { services: [] as string[], sets: 1, reads: 0, isDown: false, readMs: 0 };
  const read = async (): Promise<FleetNetwork> => {
    world.reads += 1;
    const services = world.services.map((serviceId) => ({
      serviceId,
      name: serviceId,
      addresses: [],
      members: [],
      ports: [],
    }));
    await pause(world.readMs);
    if (world.isDown) throw new Error("the database does not answer");
    const ports = Array.from({ length: world.sets }, (_, set) => {
      const mac = `0a:00:0a:40:00:02:${set}`;
      return { hostId: "host_1", mac, addresses: ["10.0.0.2"], tunnelAddress: null };
    });
    return {
      networkId: NETWORK_ID,
      tenantId: "tnt_1",
      name: "web",
      vni: 1,
      gateways: [],
      rulesKey: null,
      publishers: [],
      targets: [],
      revisedSets: [],
      endConnectionsCount: 0,
      ports,
      services,
    };
  };
  const { pollMs = limits.pollMs } = options;
  const feeds = new NetworkFeeds(ctx, read, { ...limits, pollMs });
  const namesIn = (feed: { network: FleetNetwork | undefined }) =>
    feed.network?.services.map(({ serviceId }) => serviceId);
  return { feeds, world, signals, namesIn };
}

it("100 followers share one read of each change", async () => {
  const { feeds, world, signals, namesIn } = openFeeds();
  const followed = Array.from({ length: 100 }, () => feeds.follow(NETWORK_ID));
  await Promise.all(followed.map(({ feed }) => feed.started));
  const readsBefore = world.reads;
  expect(readsBefore).toBe(1);
  const changed = followed.map(({ feed }) => feed.waitForChange(5_000, never));
  world.services = ["svc_1"];
  await signals.publish([`network:${NETWORK_ID}`]);
  await Promise.all(changed);
  for (const { feed } of followed) expect(namesIn(feed)).toEqual(["svc_1"]);
  await pause(100);
  // One for the change, and one because the service is new.
  expect(world.reads).toBe(readsBefore + 2);
  for (const { stop } of followed) stop();
});

it("misses no signal of a service that it has just learned of", async () => {
  const { feeds, world, signals, namesIn } = openFeeds();
  world.services = ["svc_1"];
  world.readMs = 30;
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  // No wait includes the service yet, because the feed has just learned of it.
  world.services = ["svc_1", "svc_2"];
  await signals.publish(["service:svc_1"]);
  await waitUntil("the feed has the change", () => namesIn(feed)?.includes("svc_2") || undefined);
  expect(world.reads).toBeLessThan(10);
  stop();
});

it("reads after a poll interval without a signal", async () => {
  const { feeds, world, namesIn } = openFeeds({ lossy: true, pollMs: 50 });
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  world.services = ["svc_1"];
  await waitUntil("the feed has the change", () => namesIn(feed)?.includes("svc_1") || undefined);
  expect(world.reads).toBeLessThan(10);
  stop();
});

it("reads at most once in each gap, however many signals arrive", async () => {
  const { feeds, world, signals } = openFeeds();
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  const startedAtMs = performance.now();
  while (performance.now() - startedAtMs < 300) {
    await signals.publish([`network:${NETWORK_ID}`]);
    await pause(1);
  }
  expect(world.reads).toBeGreaterThan(2);
  expect(world.reads).toBeLessThanOrEqual(2 + (performance.now() - startedAtMs) / limits.readGapMs);
  stop();
});

it("has the last read while the database does not answer, and then continues", async () => {
  const { feeds, world, signals, namesIn } = openFeeds();
  world.services = ["svc_1"];
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  world.isDown = true;
  world.services = ["svc_2"];
  await signals.publish(["service:svc_1"]);
  await pause(60);
  expect(namesIn(feed)).toEqual(["svc_1"]);
  world.isDown = false;
  await waitUntil("the feed continues", () => namesIn(feed)?.includes("svc_2") || undefined);
  stop();
});

it("a failed first read fails its followers, and the next follower tries again", async () => {
  const { feeds, world } = openFeeds();
  world.isDown = true;
  const first = feeds.follow(NETWORK_ID);
  await expect(first.feed.started).rejects.toThrow("does not answer");
  first.stop();
  world.isDown = false;
  const second = feeds.follow(NETWORK_ID);
  await second.feed.started;
  expect(second.feed.hasHost("host_1")).toBe(true);
  second.stop();
});

it("lasts from one poll of a host to the next", async () => {
  const { feeds } = openFeeds();
  const first = feeds.follow(NETWORK_ID);
  await first.feed.started;
  first.stop();
  await pause(limits.lingerMs / 2);
  const second = feeds.follow(NETWORK_ID);
  await pause(limits.lingerMs * 2);
  const third = feeds.follow(NETWORK_ID);
  for (const { feed } of [second, third]) expect(feed).toBe(first.feed);
  second.stop();
  third.stop();
});

it("reads nothing after its end", async () => {
  const { feeds, world, signals } = openFeeds();
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  stop();
  await pause(limits.lingerMs * 2);
  const { reads } = world;
  await signals.publish([`network:${NETWORK_ID}`]);
  await pause(50);
  expect(world.reads).toBe(reads);
  expect(feeds.follow(NETWORK_ID).feed).not.toBe(feed);
});

it("a caller that expects a change gets a read that begins after its call", async () => {
  const { feeds, world, namesIn } = openFeeds();
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  world.readMs = 30;
  const early = feed.refresh();
  await pause(5);
  world.services = ["svc_1"];
  const readsBefore = world.reads;
  await Promise.all([feed.refresh(), feed.refresh(), feed.refresh()]);
  expect(namesIn(feed)).toEqual(["svc_1"]);
  expect(world.reads).toBe(readsBefore + 1);
  await early;
  stop();
});

it("reads a large network with many hosts less often", async () => {
  const { feeds, world, signals } = openFeeds();
  const { feed, stop } = feeds.follow(NETWORK_ID);
  await feed.started;
  const countReads = async (): Promise<number> => {
    const readsBefore = world.reads;
    for (let wait = 0; wait < 30; wait++) {
      await signals.publish([`network:${NETWORK_ID}`]);
      await pause(10);
    }
    return world.reads - readsBefore;
  };
  const few = await countReads();
  const more = Array.from({ length: 40_000 }, () => feeds.follow(NETWORK_ID));
  await countReads();
  expect(await countReads()).toBeLessThan(few / 2);
  for (const each of more) each.stop();
  stop();
});

it("reads a large network less often only for agents that get it whole", async () => {
  for (const takesChanges of [true, false]) {
    const { feeds, world, signals } = openFeeds();
    world.sets = 20_000;
    world.services = ["svc_1", "svc_2"];
    const { feed, stop } = feeds.follow(NETWORK_ID);
    await feed.started;
    const more = Array.from({ length: 500 }, () => feeds.follow(NETWORK_ID, takesChanges));
    const change = async (): Promise<string> => {
      const { version } = feed;
      world.services = world.services.length === 2 ? ["svc_1"] : ["svc_1", "svc_2"];
      await signals.publish([`network:${NETWORK_ID}`]);
      return version;
    };
    const first = await change();
    await waitUntil("the feed reads", () => feed.version !== first || undefined);
    const second = await change();
    const isRead = () => feed.version !== second || undefined;
    if (takesChanges) await waitUntil("the feed reads", isRead, { deadlineMs: 4_000 });
    else await pause(5_000);
    expect(isRead()).toBe(takesChanges || undefined);
    for (const each of more) each.stop();
    stop();
  }
}, 30_000);

it("each answer has a turn of the event loop, after those to other hosts", async () => {
  const { feeds } = openFeeds();
  let turn = 0;
  let isDone = false;
  const count = (): void => {
    turn += 1;
    if (!isDone) setImmediate(count);
  };
  setImmediate(count);
  const turns = await Promise.all(Array.from({ length: 50 }, () => feeds.answer(() => turn)));
  isDone = true;
  expect(new Set(turns).size).toBe(50);
  expect(turns).toEqual(turns.toSorted((a, b) => a - b));
});
