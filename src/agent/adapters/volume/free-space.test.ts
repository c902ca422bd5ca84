import { expect, it } from "vitest";
import { silentLog } from "../../../lib/log.ts";
import type { BlockVolume } from "./block-store.ts";
import { freeSpace } from "./trash.ts";

function newVolumes(count: number): BlockVolume[] {
  return Array.from({ length: count }, (_, number) => ({
    volumeId: `vol_${number}`,
    sizeBytes: 10,
    tags: { setId: "set_1", tenant: "a", service: "b", generation: 1, state: "trashed" },
  }));
}

it("destroys trash until the store can record another volume, however much space is free", async () => {
  const destroyed: string[] = [];
  await freeSpace(1_000, {
    candidates: newVolumes(5),
    measure: () => Promise.resolve({ freeBytes: 5_000, isMetadataFull: destroyed.length < 2 }),
    destroy: ({ volumeId }) => {
      destroyed.push(volumeId);
      return Promise.resolve();
    },
    log: silentLog,
  });
  expect(destroyed).toEqual(["vol_0", "vol_1"]);
});
