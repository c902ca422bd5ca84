import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetVolumes } from "../../src/agent/ports/set-volumes.ts";
import { newId } from "../../src/lib/ids.ts";
import { localSet } from "../support/agent/local-set.ts";

export interface SetVolumesHarness {
  volumes: SetVolumes;
  /** Size of one volume. The store has space for some of them. */
  sizeBytes: number;
  isMounted(path: string): Promise<boolean>;
  /** Makes all calls to the store fail, or succeed again. */
  setFailing(isFailing: boolean): void;
  close(): Promise<void>;
}

/** The contract of SetVolumes (src/agent/ports/set-volumes.ts). */
export function describeSetVolumes(adapter: string, open: () => Promise<SetVolumesHarness>): void {
  describe(`SetVolumes: ${adapter}`, () => {
    let harness: SetVolumesHarness;
    let volumes: SetVolumes;
    const { signal } = new AbortController();

    beforeEach(async () => {
      harness = await open();
      volumes = harness.volumes;
    });
    afterEach(() => harness.close());

    const newSet = (): LocalSetSpec =>
      localSet({
        template: { volume: { size: `${harness.sizeBytes / 2 ** 20}Mi`, mountPath: "/data" } },
      });

    it("mounts a set's volume at its path, and a repetition is harmless", async () => {
      const set = newSet();
      const dataPath = volumes.getDataPath(set);
      expect(await volumes.sizeOf(set.setId, signal)).toBeUndefined();
      for (let round = 0; round < 2; round++) {
        await volumes.ensure(set, signal);
        expect(await harness.isMounted(dataPath)).toBe(true);
        expect(await volumes.sizeOf(set.setId, signal)).toBe(harness.sizeBytes);
      }
      await volumes.resize(set, signal);
      expect(await volumes.reload(signal)).toEqual([set.setId]);
    });

    it("trashes a set's volume, and a repetition or a missing volume is not an error", async () => {
      const set = newSet();
      await volumes.ensure(set, signal);
      for (const setId of [set.setId, set.setId, newId("set")]) await volumes.trash(setId, signal);
      expect(await harness.isMounted(volumes.getDataPath(set))).toBe(false);
      expect(await volumes.sizeOf(set.setId, signal)).toBeUndefined();
      expect(await volumes.reload(signal)).toEqual([]);
    });

    it("reads the last known volumes while the store fails, and a set without one ends", async () => {
      const set = newSet();
      await volumes.ensure(set, signal);
      harness.setFailing(true);
      expect(await volumes.reload(signal)).toEqual([set.setId]);
      expect(await volumes.sizeOf(set.setId, signal)).toBe(harness.sizeBytes);
      await volumes.trash(newId("set"), signal);
      await expect(volumes.trash(set.setId, signal)).rejects.toMatchObject({ name: "AgentError" });
      harness.setFailing(false);
      await volumes.trash(set.setId, signal);
    });
  });
}
