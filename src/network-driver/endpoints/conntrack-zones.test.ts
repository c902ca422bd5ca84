import fc from "fast-check";
import { expect, it } from "vitest";
import { silentLog as log } from "../../lib/log.ts";
import type { DriverRecordsContent } from "../model/driver-records.ts";
import { createLinkNames } from "../model/link-names.ts";
import { ConntrackZones } from "./conntrack-zones.ts";
import { EndpointRecords } from "./endpoint-records.ts";

const signal = new AbortController().signal;
/** Both VNIs derive the zone 4098. */
const [first, second] = [4_097, 4_097 + 65_534];

/** A disk, and a switch that can fail. `start` is a process of the driver. */
function createHost() {
  const flushed: number[] = [];
  const host = {
    isUp: true,
    isDiskFrozen: false,
    brokenZone: 0,
    whileFlushing: () => undefined as unknown,
    stored: { version: 1, networks: {}, endpoints: {}, zones: {} },
  };
  const start = (): ConntrackZones => {
    const store = {
      load: async () => ({ kind: "missing" as const }),
      save: async (read: () => DriverRecordsContent) => {
        if (!host.isDiskFrozen) host.stored = structuredClone(read());
      },
    };
    const records = new EndpointRecords(store, host.stored, {
      names: createLinkNames("b"),
      nowMs: () => 0,
    });
    const endConnections = async (
      { zone }: { zone: number },
      flushSignal: AbortSignal,
    ): Promise<void> => {
      host.whileFlushing();
      flushSignal.throwIfAborted();
      if (!host.isUp || zone === host.brokenZone) throw new Error("Open vSwitch does not answer.");
      flushed.push(zone);
    };
    return new ConntrackZones({ records, switchPort: { endConnections }, log });
  };
  const apply = async (zones: ConntrackZones, vnis: readonly number[]) => {
    const assigned = zones.assign(vnis);
    await zones.store();
    zones.confirm();
    await zones.flushReleased(signal);
    return Object.fromEntries(vnis.map((vni) => [vni, assigned.get(vni)]));
  };
  return { host, flushed, start, apply };
}

it("two networks that derive one zone have the same zones after a restart", async () => {
  const { start, apply } = createHost();
  const zones = start();
  await apply(zones, [second]);
  const before = await apply(zones, [second, first]);
  expect(before).toEqual({ [second]: 4_098, [first]: 4_099 });
  expect(await apply(start(), [first, second])).toEqual(before);
});

it("a network gets the zone of an earlier one only after the connections in it are removed", async () => {
  const { host, flushed, start, apply } = createHost();
  const zones = start();
  await apply(zones, [first]);
  host.isUp = false;
  expect(await apply(zones, [second])).toEqual({ [second]: 4_099 });
  expect(flushed).toEqual([]);
  host.isUp = true;
  // Even if the driver restarts, the zone is that of the network that has left.
  const restarted = start();
  expect(await apply(restarted, [second])).toEqual({ [second]: 4_099 });
  expect(flushed).toEqual([4_098]);
  expect(await apply(restarted, [second, first])).toEqual({ [second]: 4_099, [first]: 4_098 });
  expect(flushed).toEqual([4_098]);
});

it("many networks that leave together hold zones within a bound", async () => {
  const { host, start, apply } = createHost();
  const zones = start();
  host.isUp = false;
  await apply(
    zones,
    Array.from({ length: 16_000 }, (_, vni) => vni + 1),
  );
  await apply(
    zones,
    Array.from({ length: 16_000 }, (_, vni) => vni + 20_000),
  );
  await apply(zones, [65_000]);
  expect(Object.keys(host.stored.zones)).toHaveLength(16_001);
});

it("a zone whose connections cannot be removed delays no other one", async () => {
  const { host, flushed, start, apply } = createHost();
  const zones = start();
  await apply(zones, [1, 2, 3]);
  host.brokenZone = 2;
  await apply(zones, [9]);
  expect(flushed).toEqual([3, 4]);
  host.brokenZone = 0;
  await zones.flushReleased(signal);
  expect(flushed).toEqual([3, 4, 2]);
});

it("a network that returns during the removal has its zone, and no other network gets it", async () => {
  const { host, flushed, start, apply } = createHost();
  const zones = start();
  await apply(zones, [first]);
  host.whileFlushing = () => zones.assign([first]);
  await apply(zones, []);
  host.whileFlushing = () => undefined;
  // It keeps the connections that it opens from then on.
  expect(flushed).toEqual([]);
  expect(zones.current).toEqual(new Map([[first, 4_098]]));
  expect(await apply(zones, [second, first])).toEqual({ [second]: 4_099, [first]: 4_098 });
});

it("a zone is removed only when no flow uses it", async () => {
  const { flushed, start, apply } = createHost();
  const zones = start();
  await apply(zones, [first]);
  zones.assign([]);
  await zones.flushReleased(signal);
  expect(flushed).toEqual([]);
  zones.confirm();
  await zones.flushReleased(signal);
  expect(flushed).toEqual([4_098]);
});

it("no network finds connections of another one, wherever the driver dies", async () => {
  const vnis = [0, 1, 2, 3].map((place) => 4_097 + place * 65_534);
  const points = ["assign", "store", "flows", "confirm", "flush", "end"] as const;
  const stepArbitrary = fc.record({
    present: fc.subarray(vnis),
    diesAfter: fc.constantFrom(...points),
    isUp: fc.boolean(),
  });
  const property = fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 12 }), async (steps) => {
    const { host, flushed, start } = createHost();
    /** The network of the connections in each zone. */
    const owners = new Map<number, number>();
    let zones = start();
    for (const { present, diesAfter, isUp } of steps) {
      const assigned = zones.assign(present);
      const work = {
        assign: async () => undefined,
        store: () => zones.store(),
        flows: async () => {
          for (const vni of present) {
            const zone = assigned.get(vni) ?? 0;
            expect([zone, owners.get(zone) ?? vni]).toEqual([zone, vni]);
            owners.set(zone, vni);
          }
        },
        confirm: async () => zones.confirm(),
        flush: async () => {
          host.isUp = isUp;
          // A driver that dies here has not stored what it removed.
          host.isDiskFrozen = diesAfter === "flush";
          await zones.flushReleased(signal);
          host.isDiskFrozen = false;
          for (const zone of flushed.splice(0)) owners.delete(zone);
        },
        end: async () => undefined,
      };
      for (const point of points) {
        await work[point]();
        if (point === diesAfter) break;
      }
      if (diesAfter !== "end") zones = start();
    }
  });
  await fc.assert(property, { numRuns: 500 });
});
