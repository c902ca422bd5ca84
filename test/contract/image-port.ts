import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ImagePort } from "../../src/agent/ports/image-port.ts";

export interface ImagePortHarness {
  images: ImagePort;
  /** A reference of an image that the engine has. */
  image: string;
  /** Deletes the infra image without the port. */
  removeInfraImage(): Promise<void>;
  close(): Promise<void>;
}

/** The contract of ImagePort (src/agent/ports/image-port.ts). */
export function describeImagePort(adapter: string, open: () => Promise<ImagePortHarness>): void {
  describe(`ImagePort: ${adapter}`, () => {
    let harness: ImagePortHarness;
    let images: ImagePort;
    const { signal } = new AbortController();
    const absent = "berth.invalid/no-such-image:1";
    const isUsable = (reference: string) =>
      images.isUsable({ reference, tenant: "default" }, signal);

    beforeEach(async () => {
      harness = await open();
      images = harness.images;
    });
    afterEach(() => harness.close());

    it("finds and lists the images of the engine, and no others", async () => {
      expect(await isUsable(harness.image)).toBe(true);
      expect(await isUsable(absent)).toBe(false);
      for (const reference of [harness.image, absent])
        expect(await images.needsOwnPull({ reference, tenant: "default" }, signal)).toBe(false);
      const listed = await images.list(signal);
      expect(listed).toContain(harness.image);
      expect(listed).toEqual(listed.toSorted());
    });

    it("fails in the phase of the image if no registry has it", async () => {
      const pull = images.pull({ reference: absent, tenant: "default" }, signal);
      await expect(pull).rejects.toMatchObject({ name: "AgentError", phase: "image" });
      expect(await isUsable(absent)).toBe(false);
    });

    it("ends a pull when it is aborted", async () => {
      const aborting = new AbortController();
      const pull = images.pull({ reference: absent, tenant: "default" }, aborting.signal);
      aborting.abort(new Error("stopping"));
      await expect(pull).rejects.toThrow("stopping");
    });

    it("has the infra image, and restores a lost one", async () => {
      const reference = await images.infraImage();
      expect(await images.infraImage()).toBe(reference);
      expect(await isUsable(reference)).toBe(true);
      await harness.removeInfraImage();
      expect(await isUsable(reference)).toBe(false);
      expect(await images.restoreInfraImage()).toBe(reference);
      expect(await images.restoreInfraImage()).toBe(reference);
      expect(await isUsable(reference)).toBe(true);
    });
  });
}
