import { describe, expect, it } from "vitest";
import { waitUntil } from "../../../test/support/wait-until.ts";
import { silentLog } from "../../lib/log.ts";
import { createSimulatedSetPort } from "../../host-adapters/simulated/set-port.ts";
import { SimulatedEngine } from "../../host-adapters/simulated/simulated-engine.ts";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { systemClock } from "../../host-adapters/machine/system-clock.ts";
import { LogStreams } from "./log-streams.ts";
import type { ControlPlane } from "../ports/control-plane.ts";

function host({ streamsMax = 2 } = {}) {
  const engine = new SimulatedEngine({ clock: systemClock });
  const set = localSet();
  engine.prepareInfra("host_one", set);
  engine.prepareBusiness("host_one", set);
  const uploads = new Map<string, { text: string; error: string | undefined; isOver: boolean }>();
  const api: ControlPlane = {
    sync: () => Promise.reject(new Error("not expected")),
    async uploadStream(streamId, { chunks, error }) {
      const upload = { text: "", error, isOver: false };
      uploads.set(streamId, upload);
      for await (const chunk of chunks) upload.text += Buffer.from(chunk).toString();
      upload.isOver = true;
    },
  };
  const port = createSimulatedSetPort(engine, "host_one");
  const streams = new LogStreams({ port, api, clock: systemClock, log: silentLog, streamsMax });
  const stopping = new AbortController();
  const ask = (streamId: string, container = "app", follow = false) =>
    streams.serve([{ streamId, setId: set.setId, container, follow, tail: 10 }], stopping.signal);
  return { streams, uploads, ask, stop: () => stopping.abort(new Error("stop")) };
}

const text = "app is simulated and prints nothing\n";

describe("logs for readers", () => {
  it("are streamed to their end", async () => {
    const { streams, uploads, ask } = host();
    ask("one");
    await streams.settled();
    expect(uploads.get("one")).toEqual({ text, error: undefined, isOver: true });
  });

  it("report why a log cannot be opened", async () => {
    const { streams, uploads, ask } = host();
    ask("one", "nope");
    await streams.settled();
    expect(uploads.get("one")).toMatchObject({
      text: "",
      error: 'the set has no container "nope" on this host',
    });
  });

  it("follow until the agent stops", async () => {
    const { streams, uploads, ask, stop } = host();
    ask("one", "app", true);
    await waitUntil("the first line is sent", () => uploads.get("one")?.text === text);
    expect(uploads.get("one")?.isOver).toBe(false);
    stop();
    await streams.settled();
    expect(uploads.get("one")?.isOver).toBe(true);
  });

  it("are limited in number, and each is sent once", async () => {
    const { streams, uploads, ask, stop } = host({ streamsMax: 1 });
    ask("one", "app", true);
    ask("one", "app", true);
    ask("two", "app", true);
    await waitUntil("both uploads have started", () => uploads.size === 2);
    expect(uploads.get("two")?.error).toMatch("already streams 1 logs");
    stop();
    await streams.settled();
    expect(uploads.get("one")).toMatchObject({ text, error: undefined });
  });
});
