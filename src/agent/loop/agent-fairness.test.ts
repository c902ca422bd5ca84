import { describe, expect, it } from "vitest";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import type { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import type { SimulatedCall } from "../../host-adapters/simulated/simulated-engine.ts";

/** More sets than the agent has slots of any kind. */
const manySets = 100;

/** A running set of one tenant beside many running sets of another tenant. */
async function sharedHost(options: object) {
  const { simulation } = await runningHost(0);
  const noisy = Array.from({ length: manySets }, () =>
    simulation.want({ tenant: "noisy", options }),
  );
  const quiet = simulation.want({ tenant: "quiet" });
  await simulation.pass(30_000);
  expect(simulation.differences()).toEqual([]);
  const noisyIds = new Set(noisy.map(({ setId }) => setId));
  /** From now on these calls for the sets of the other tenant hang. */
  const hang = (...verbs: SimulatedCall["verb"][]) => {
    simulation.hangs = ({ verb, setId = "" }) => verbs.includes(verb) && noisyIds.has(setId);
  };
  return { simulation, noisy, quiet, hang };
}

/** Milliseconds until the app of the set runs again after a crash. */
async function measureRestart(
  simulation: AgentSimulation,
  set: Awaited<ReturnType<typeof sharedHost>>["quiet"],
): Promise<number> {
  simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
  for (let ms = 0; ms < 300_000; ms += 100) {
    if (containerOf(simulation, set, "app").state === "running") return ms;
    await simulation.pass(100);
  }
  return Infinity;
}

const slowHealth = (check: object) => ({
  health: { ...check, intervalSeconds: 1, timeoutSeconds: 60 },
});

describe("a crashed container is restarted without delay while another tenant has", () => {
  it.each([
    ["TCP probes", { tcp: { port: 80 } }],
    ["HTTP probes", { http: { port: 80, path: "/" } }],
    ["exec probes", { exec: { command: ["check"] } }],
  ])("many %s that hang", async (_kind, check) => {
    const { simulation, quiet, hang } = await sharedHost(slowHealth(check));
    hang("probe");
    await simulation.pass(60_000);
    expect(await measureRestart(simulation, quiet)).toBeLessThan(3_000);
  });

  it("many containers that Docker cannot inspect", async () => {
    const { simulation, noisy, quiet, hang } = await sharedHost({});
    hang("observe");
    for (const set of noisy) simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(10_000);
    expect(await measureRestart(simulation, quiet)).toBeLessThan(3_000);
  });

  it("many containers that ignore their stop signal", async () => {
    const { simulation, noisy, quiet, hang } = await sharedHost({});
    hang("stopAll");
    for (const set of noisy) simulation.change(set, { desired: "stopped" });
    await simulation.pass(10_000);
    expect(await measureRestart(simulation, quiet)).toBeLessThan(3_000);
  });

  it("many starts that hang", async () => {
    const { simulation, noisy, quiet, hang } = await sharedHost({});
    hang("start");
    for (const set of noisy) simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(60_000);
    expect(await measureRestart(simulation, quiet)).toBeLessThan(3_000);
  });
});

it("a set of one tenant does not wait for the queue of another tenant", async () => {
  const { simulation } = await runningHost(0);
  simulation.limits = { stepsMax: 2 };
  simulation.kill();
  simulation.start();
  await simulation.pass(5_000);
  for (let i = 0; i < manySets; i++)
    simulation.change(
      { ...localSet({ image: "menu:1" }), desired: "running" },
      { tenant: "noisy" },
    );
  await simulation.pass(1_000);
  const quiet = simulation.want({ tenant: "quiet" });
  await simulation.pass(3_000);
  expect(lastReport(simulation, quiet)).toMatchObject({ state: "running" });
});
