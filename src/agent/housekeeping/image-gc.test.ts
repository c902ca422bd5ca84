import { beforeEach, describe, expect, it } from "vitest";
import { waitUntil } from "../../../test/support/wait-until.ts";
import { silentLog } from "../../lib/log.ts";
import { systemClock } from "../../host-adapters/machine/system-clock.ts";
import { ImageGc } from "./image-gc.ts";
import type { DiskPort, PulledImage } from "../ports/disk-port.ts";

/** A disk with ten images, each a twentieth of it, and a collector that runs on demand. */
describe("image garbage collection", () => {
  const unusedMsMin = 1_000;
  let images: PulledImage[];
  let otherShare: number;
  let needed: Set<string>;
  let removed: string[];
  let nowMs: number;
  let imageGc: ImageGc;

  const port: DiskPort = {
    measure: async () => ({
      imageBytes: images.length,
      containerBytes: 0,
      rootfsBytes: new Map(),
    }),
    listPulledImages: async () => {
      checks++;
      return [...images];
    },
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
    imageGc = new ImageGc({
      port,
      thresholds: { highShare: 0.8, lowShare: 0.7 },
      // Waits end immediately, so that only the clock decides.
      clock: { ...systemClock, nowMs: () => nowMs, after: (_ms, act) => systemClock.after(0, act) },
      log: silentLog,
      intervalMs: 1,
      unusedMsMin,
      neededImages: () => needed,
      onUsage: () => undefined,
    });
  });
  let checks = 0;

  async function runOnce(): Promise<void> {
    const stopping = new AbortController();
    const before = checks;
    const ran = imageGc.run(stopping.signal);
    await waitUntil("the images are checked", () => checks >= before + 2, { everyMs: 1 });
    stopping.abort();
    await ran;
  }

  it("deletes no image while the disk has space, and no image that was in use recently", async () => {
    otherShare = 0.2;
    await runOnce();
    nowMs += unusedMsMin;
    await runOnce();
    otherShare = 0.4;
    needed.add("image:3");
    await runOnce();
    needed.delete("image:3");
    nowMs += unusedMsMin / 2;
    await runOnce();
    expect(removed).not.toContain("image:3");
  });

  it("deletes the longest unused images until the disk has space", async () => {
    otherShare = 0.25;
    needed.add("image:9");
    await runOnce();
    nowMs += 1;
    needed.delete("image:9");
    await runOnce();
    nowMs += unusedMsMin;
    otherShare = 0.35;
    await runOnce();
    expect(removed).toEqual(["image:3", "image:4", "image:5"]);
    expect(imageGc.usage).toMatchObject({ imageBytes: expect.any(Number) });
  });

  it("never deletes an image that a container or a set uses, however full the disk is", async () => {
    otherShare = 0.9;
    await runOnce();
    nowMs += unusedMsMin;
    await runOnce();
    expect(images.map(({ reference }) => reference)).toEqual(["image:0", "image:1", "image:2"]);
  });

  it("deletes unused images although measurements fail or never end", async () => {
    for (const measure of [
      () => Promise.reject(new Error("a disk usage operation is already running")),
      (signal: AbortSignal) =>
        new Promise<never>((_resolve, reject) =>
          signal.addEventListener("abort", () => reject(new Error("aborted"))),
        ),
    ]) {
      port.measure = measure;
      removed = [];
      images = Array.from({ length: 10 }, (_, n) => ({ reference: `image:${n}`, isUsed: n < 2 }));
      otherShare = 0.9;
      await runOnce();
      nowMs += unusedMsMin;
      await runOnce();
      expect(removed).toHaveLength(7);
    }
  });
});
