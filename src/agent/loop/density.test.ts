import { describe, expect, it } from "vitest";
import { runningHost } from "../../../test/support/fleet/running-host.ts";

const windowMs = 60_000;
const probeIntervalSeconds = 2;

/** Counts the agent's calls within a minute in which nothing changes. */
async function countIdleCalls(setCount: number) {
  const { simulation } = await runningHost(0);
  const health = { tcp: { port: 80 }, intervalSeconds: probeIntervalSeconds };
  for (let set = 0; set < setCount; set++)
    simulation.want({ names: ["app"], options: { cpu: 100, memory: 100, health } });
  await simulation.pass(120_000);
  expect(simulation.differences()).toEqual([]);
  const counts = { wholeHost: 0, oneSet: 0, probes: 0, changes: 0 };
  simulation.hangs = ({ verb, at, setId }) => {
    if (at !== "begin" || verb === "ping") return false;
    if (verb === "probe") counts.probes++;
    else if (verb !== "observe") counts.changes++;
    else if (setId === undefined) counts.wholeHost++;
    else counts.oneSet++;
    return false;
  };
  simulation.plane.received.length = 0;
  await simulation.pass(windowMs);
  const reports = simulation.plane.received.flatMap(({ observed }) => observed).length;
  return { ...counts, reports };
}

describe("the idle work of an agent with 300 sets and 600 containers", () => {
  it("grows with the number of sets only by their probes, which observe no set", async () => {
    for (const sets of [100, 300]) {
      const { probes, ...others } = await countIdleCalls(sets);
      expect(others).toEqual({ wholeHost: 1, oneSet: 0, changes: 0, reports: 0 });
      // The window may begin and end between the probes of a set.
      const probesPerSet = windowMs / (probeIntervalSeconds * 1_000);
      expect(Math.abs(probes / sets - probesPerSet)).toBeLessThanOrEqual(1);
    }
  }, 60_000);
});
