import { expect, it } from "vitest";
import { silentLog } from "../../lib/log.ts";
import type { BlockVolume } from "./block-store.ts";
import { freeSpace } from "./trash.ts";

function newVolumes(count: number): BlockVolume[] {
  return Array.from({ length: count }, (_, number) => ({
    volumeId: `vol_${number}`,
    sizeBytes: 10,
    tags: { setId: "set_1", tenant: "a", service: "b", generation: 1, state: "trashed" },
  }));
}

/** Frees space with five trashed volumes of 10 bytes. Returns the ids of the destroyed ones. */
async function free(
  wantedBytes: number,
  options: { freeBytes: number; metadataVolumesLeft: number; isCreation: boolean },
): Promise<string[]> {
  const { freeBytes, metadataVolumesLeft, isCreation } = options;
  const destroyed: string[] = [];
  await freeSpace(wantedBytes, {
    isCreation,
    candidates: newVolumes(5),
    measure: () =>
      Promise.resolve({
        freeBytes: freeBytes + 10 * destroyed.length,
        recordsLacking: Math.max(0, metadataVolumesLeft - destroyed.length),
      }),
    destroy: ({ volumeId }) => {
      destroyed.push(volumeId);
      return Promise.resolve();
    },
    log: silentLog,
  });
  return destroyed;
}

it("destroys trash until the store can record another volume, however much space is free", async () => {
  const options = { freeBytes: 5_000, metadataVolumesLeft: 2, isCreation: true };
  expect(await free(1_000, options)).toEqual(["vol_0", "vol_1"]);
});

it("destroys as few volumes as free the space, or none if all together do not", async () => {
  const options = { freeBytes: 0, metadataVolumesLeft: 0, isCreation: true };
  expect(await free(15, options)).toEqual(["vol_0", "vol_1"]);
  expect(await free(51, options)).toEqual([]);
});

it("destroys no trash for a volume that does not fit, although the metadata area is full", async () => {
  expect(await free(51, { freeBytes: 0, metadataVolumesLeft: 2, isCreation: true })).toEqual([]);
});

it("destroys no trash for the metadata area when a volume grows", async () => {
  const options = { freeBytes: 100, metadataVolumesLeft: 5, isCreation: false };
  expect(await free(50, options)).toEqual([]);
  expect(await free(105, options)).toEqual(["vol_0"]);
});

it("destroys no trash for the metadata area if all of it would not suffice", async () => {
  const options = { freeBytes: 5_000, metadataVolumesLeft: 6, isCreation: true };
  expect(await free(1_000, options)).toEqual([]);
  expect(await free(1_000, { ...options, metadataVolumesLeft: 5 })).toHaveLength(5);
});
