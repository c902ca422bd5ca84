import { beforeEach, describe, expect, it } from "vitest";
import { waitUntil } from "../../test/support/wait-until.ts";
import { silentLog } from "../lib/log.ts";
import { systemClock } from "./clock.ts";
import { DiskKeeper } from "./disk-keeper.ts";
import type { DiskPort, PulledImage } from "./ports/disk-port.ts";

/** A disk of ten images, each a twentieth of it, and a keeper that looks when it is told to. */
describe("the keeper of Docker's disk", () => {
  const unusedMsMin = 1_000;
  let images: PulledImage[];
  let otherShare: number;
  let needed: Set<string>;
  let removed: string[];
  let nowMs: number;
  let keeper: DiskKeeper;

  const port: DiskPort = {
    use: async () => ({
      imageBytes: images.length,
      containerBytes: 0,
      rootfsBytes: new Map(),
      pulledImages: [...images],
    }),
    usedShare: async () => otherShare + images.length / 20,
    removeImage: async (reference) => {
      if (images.some((image) => image.reference === reference && image.isUsed)) return false;
      images = images.filter((image) => image.reference !== reference);
      removed.push(reference);
      return true;
    },
  };

  beforeEach(() => {
    images = Array.from({ length: 10 }, (_, n) => ({ reference: `image:${n}`, isUsed: n < 2 }));
    otherShare = 0.4;
    needed = new Set(["image:2"]);
    removed = [];
    nowMs = 0;
    keeper = new DiskKeeper({
      port,
      collection: { highShare: 0.8, lowShare: 0.7 },
      // A wait is over at once, so that the clock alone says when it is.
      clock: { ...systemClock, nowMs: () => nowMs, after: (_ms, act) => systemClock.after(0, act) },
      log: silentLog,
      intervalMs: 1,
      unusedMsMin,
      neededImages: () => needed,
      onUse: () => looks++,
    });
  });
  let looks = 0;

  async function look(): Promise<void> {
    const stopping = new AbortController();
    const before = looks;
    const ran = keeper.run(stopping.signal);
    await waitUntil("it has looked", () => looks >= before + 2, { everyMs: 1 });
    stopping.abort();
    await ran;
  }

  it("removes nothing while there is room, and nothing that was of use a moment ago", async () => {
    otherShare = 0.2;
    await look();
    nowMs += unusedMsMin;
    await look();
    otherShare = 0.4;
    needed.add("image:3");
    await look();
    needed.delete("image:3");
    nowMs += unusedMsMin / 2;
    await look();
    expect(removed).not.toContain("image:3");
  });

  it("removes what was of no use for longest, until there is room again", async () => {
    otherShare = 0.25;
    needed.add("image:9");
    await look();
    nowMs += 1;
    needed.delete("image:9");
    await look();
    nowMs += unusedMsMin;
    otherShare = 0.35;
    await look();
    expect(removed).toEqual(["image:3", "image:4", "image:5"]);
    expect(keeper.use).toMatchObject({ imageBytes: expect.any(Number) });
  });

  it("never removes what a container is made of or a set is to be, however full the disk", async () => {
    otherShare = 0.9;
    await look();
    nowMs += unusedMsMin;
    await look();
    expect(images.map(({ reference }) => reference)).toEqual(["image:0", "image:1", "image:2"]);
  });
});
