import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { DaemonPort } from "../../src/agent/ports/daemon-port.ts";

export interface DaemonPortHarness {
  daemon: DaemonPort;
  /** Makes the daemon accept calls without an answer, or answer again. */
  setHanging(isHanging: boolean): void;
  close(): Promise<void>;
}

/** The contract of DaemonPort (src/agent/ports/daemon-port.ts). */
export function describeDaemonPort(adapter: string, open: () => Promise<DaemonPortHarness>): void {
  describe(`DaemonPort: ${adapter}`, () => {
    let harness: DaemonPortHarness;
    let daemon: DaemonPort;

    beforeEach(async () => {
      harness = await open();
      daemon = harness.daemon;
    });
    afterEach(() => harness.close());

    it("answers pings, and a hung daemon is a temporary error before the deadline", async () => {
      await daemon.ping(10_000);
      harness.setHanging(true);
      const startedAtMs = performance.now();
      await expect(daemon.ping(200)).rejects.toMatchObject({
        name: "AgentError",
        code: "docker-unavailable",
        temporary: true,
      });
      expect(performance.now() - startedAtMs).toBeLessThan(10_000);
      harness.setHanging(false);
      await daemon.ping(10_000);
    });

    it("queries its facts once, and then has them while it hangs", async () => {
      expect(daemon.knownFacts()).toBeUndefined();
      const [facts, shared] = await Promise.all([daemon.facts(), daemon.facts()]);
      expect(shared).toBe(facts);
      expect(["cgroupfs", "systemd"]).toContain(facts.cgroupManager.driver);
      harness.setHanging(true);
      expect(await daemon.facts()).toBe(facts);
      expect(daemon.knownFacts()).toBe(facts);
    });
  });
}
