import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isLimited, setLimits } from "../../src/agent/model/set-limits.ts";
import type { CgroupPort } from "../../src/agent/ports/cgroup-port.ts";
import { newId } from "../../src/lib/ids.ts";

export interface CgroupPortHarness {
  cgroups: CgroupPort;
  /** A second host on the same machine. */
  otherHost: CgroupPort;
  /** Paths of the cgroups of both hosts that contain those of their sets. */
  listHostCgroups(): Promise<{ own: string[]; other: string[] }>;
  close(): Promise<void>;
}

const MiB = 2 ** 20;

/** The contract of CgroupPort (src/agent/ports/cgroup-port.ts). */
export function describeCgroupPort(adapter: string, open: () => Promise<CgroupPortHarness>): void {
  describe(`CgroupPort: ${adapter}`, () => {
    let harness: CgroupPortHarness;
    let cgroups: CgroupPort;
    let setId: string;
    const { signal } = new AbortController();
    const limits = setLimits({ cpuMillis: 1_500, memoryBytes: 64 * MiB });
    const dockerId = "a".repeat(64);

    beforeEach(async () => {
      harness = await open();
      cgroups = harness.cgroups;
      setId = newId("set");
    });
    afterEach(async () => {
      await cgroups.remove(setId, signal);
      await harness.close();
    });

    it("has the limits that were last ensured, and a repetition is harmless", async () => {
      expect(await cgroups.read(setId)).toBeUndefined();
      const smaller = setLimits({ cpuMillis: 250, memoryBytes: 16 * MiB });
      for (const wanted of [limits, limits, smaller, limits]) {
        await cgroups.ensure(setId, wanted, signal);
        const seen = await cgroups.read(setId);
        expect(seen && isLimited(seen, wanted)).toBe(true);
      }
      const parents = [await cgroups.parentOf(setId), await harness.otherHost.parentOf(setId)];
      expect(new Set(parents).size).toBe(2);
    });

    it("lists and removes its own sets alone, and a repetition is harmless", async () => {
      await cgroups.ensure(setId, limits, signal);
      expect(await cgroups.list()).toEqual([setId]);
      expect(await harness.otherHost.list()).toEqual([]);
      await harness.otherHost.remove(setId, signal);
      expect(await cgroups.read(setId)).toBeDefined();
      for (let round = 0; round < 2; round++) await cgroups.remove(setId, signal);
      expect(await cgroups.list()).toEqual([]);
      expect(await cgroups.read(setId)).toBeUndefined();
    });

    it("removes the cgroup of a host without sets, and no other one", async () => {
      const { otherHost } = harness;
      const otherSetId = newId("set");
      await cgroups.ensure(setId, limits, signal);
      await otherHost.ensure(otherSetId, limits, signal);
      await expect(cgroups.removeHost(signal)).rejects.toMatchObject({ code: "cgroup-busy" });
      expect(await cgroups.read(setId)).toBeDefined();
      await cgroups.remove(setId, signal);
      const { other } = await harness.listHostCgroups();
      for (let round = 0; round < 2; round++) await cgroups.removeHost(signal);
      expect(await harness.listHostCgroups()).toEqual({ own: [], other });
      expect(other).not.toEqual([]);
      await otherHost.remove(otherSetId, signal);
    });

    it("reports nothing of a container that does not run", async () => {
      await cgroups.ensure(setId, limits, signal);
      expect(await cgroups.readContainer(setId, dockerId)).toBeUndefined();
      expect(await cgroups.containerMemoryEvents(setId, dockerId)).toBeUndefined();
      expect(await cgroups.listProcesses(setId, dockerId)).toEqual([]);
      await cgroups.checkContainerMemory(setId, { dockerId, name: "app" }, MiB);
      const devices = ["253:0"];
      await cgroups.limitIo(setId, dockerId, { devices, limits: {} }, signal);
      for (const seen of (await cgroups.readIo(setId, dockerId, devices)) ?? [])
        expect(Object.values(seen).every((limit) => limit === Infinity)).toBe(true);
    });

    it("measures the memory of its own sets", async () => {
      await cgroups.ensure(setId, limits, signal);
      expect(await cgroups.memoryUsage()).toEqual({ [setId]: expect.any(Number) });
      expect(await harness.otherHost.memoryUsage()).toEqual({});
    });
  });
}
