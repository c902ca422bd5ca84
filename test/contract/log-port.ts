import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LogPort } from "../../src/agent/ports/log-port.ts";

export interface LogPortHarness {
  logs: LogPort;
  /** Runs a container that prints the lines and then waits; returns its Docker id. */
  print(lines: readonly string[]): Promise<string>;
  close(): Promise<void>;
}

/** The contract of LogPort (src/agent/ports/log-port.ts). */
export function describeLogPort(adapter: string, open: () => Promise<LogPortHarness>): void {
  describe(`LogPort: ${adapter}`, () => {
    let harness: LogPortHarness;

    beforeEach(async () => {
      harness = await open();
    });
    afterEach(() => harness.close());

    async function read(
      dockerId: string,
      range: { tail: number; follow: boolean },
      { signal } = new AbortController(),
      onText: (text: string) => void = () => undefined,
    ): Promise<string> {
      let text = "";
      for await (const chunk of harness.logs.read(dockerId, range, signal)) {
        text += Buffer.from(chunk).toString();
        onText(text);
      }
      return text;
    }

    it("ends with the last lines that exist if it does not follow", async () => {
      const dockerId = await harness.print(["one", "two", "three"]);
      const all = { tail: 100, follow: false };
      await expect.poll(() => read(dockerId, all)).toBe("one\ntwo\nthree\n");
      expect(await read(dockerId, { ...all, tail: 2 })).toBe("two\nthree\n");
    });

    it("follows a running container until it is aborted, without an error", async () => {
      const dockerId = await harness.print(["one"]);
      const reading = new AbortController();
      const text = await read(dockerId, { tail: 100, follow: true }, reading, (soFar) => {
        if (soFar === "one\n") reading.abort();
      });
      expect(text).toBe("one\n");
    });

    it("rejects with AgentError if the container does not exist", async () => {
      const missing = read("f".repeat(64), { tail: 1, follow: false });
      await expect(missing).rejects.toMatchObject({ name: "AgentError", code: "not-there" });
    });
  });
}
