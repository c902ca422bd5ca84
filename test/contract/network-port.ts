import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { NetworkPort, ProbedEndpoint } from "../../src/agent/ports/network-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { localSet } from "../support/agent/local-set.ts";

export interface NetworkPortHarness {
  network: NetworkPort;
  /** A server of a set. It answers each connection with the text, or with nothing. */
  serve(answer: string | undefined): Promise<ProbedEndpoint>;
  /** An endpoint of a set at which nothing listens. */
  closedEndpoint(): Promise<ProbedEndpoint>;
  close(): Promise<void>;
}

/** The contract of NetworkPort (src/agent/ports/network-port.ts). */
export function describeNetworkPort(
  adapter: string,
  open: () => Promise<NetworkPortHarness>,
): void {
  describe(`NetworkPort: ${adapter}`, () => {
    let harness: NetworkPortHarness;
    let network: NetworkPort;
    const { signal } = new AbortController();

    beforeEach(async () => {
      harness = await open();
      network = harness.network;
    });
    afterEach(() => harness.close());

    it("prepares and releases a set, and each repetition is harmless", async () => {
      const set = localSet();
      const prepared = await network.prepare(set, signal);
      expect(prepared[0].dockerNetwork).not.toBe("");
      expect(await network.prepare(set, signal)).toEqual(prepared);
      for (const setId of [set.setId, set.setId, newId("set")])
        await network.release(setId, signal);
    });

    it("connects to a port, and a closed one is unhealthy", async () => {
      expect(await network.probe(await harness.serve(undefined), 10, signal)).toEqual({
        healthy: true,
      });
      expect(await network.probe(await harness.closedEndpoint(), 10, signal)).toMatchObject({
        healthy: false,
        detail: expect.stringContaining("ECONNREFUSED"),
      });
    });

    it("requests a path, and only a status of success is healthy", async () => {
      const answers = [
        ["HTTP/1.1 204 No Content\r\n\r\n", true],
        ["HTTP/1.1 503 Service Unavailable\r\n\r\n", false],
      ] as const;
      for (const [answer, healthy] of answers) {
        const endpoint = { ...(await harness.serve(answer)), path: "/health" };
        expect(await network.probe(endpoint, 10, signal)).toMatchObject({ healthy });
      }
    });

    it("is unhealthy after the timeout, and rejects only when aborted", async () => {
      const silent = { ...(await harness.serve(undefined)), path: "/" };
      expect(await network.probe(silent, 1, signal)).toMatchObject({ healthy: false });
      const aborting = new AbortController();
      const probe = network.probe(silent, 600, aborting.signal);
      aborting.abort(new Error("stopping"));
      await expect(probe).rejects.toThrow("stopping");
    });
  });
}
