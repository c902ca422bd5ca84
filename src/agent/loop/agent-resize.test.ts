import { describe, expect, it } from "vitest";
import { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

/** Longer than the resync interval. */
const lookMs = 120_000;
const foreignLimits = { cpuQuotaUs: 7_000, cpuShares: 7, memoryBytes: 2 ** 26 };

/** A host that runs one set, with an empty list of changes. */
async function runningSet() {
  const simulation = new AgentSimulation(42);
  const set = simulation.want({ names: ["app", "log"] });
  simulation.start();
  await simulation.pass(5_000);
  expect(simulation.differences()).toEqual([]);
  simulation.changes.length = 0;
  return { simulation, set };
}

function seen(simulation: AgentSimulation, { setId }: DesiredSet) {
  const observed = simulation.observed(setId);
  if (!observed?.infra) throw new Error(`${setId} does not exist`);
  return { infra: observed.infra, containers: observed.containers };
}

/**
 * Container ids, states and start times. They stay equal until a container is restarted or
 * replaced.
 */
function runsOf(simulation: AgentSimulation, set: DesiredSet) {
  const { infra, containers } = seen(simulation, set);
  return [infra, ...containers].map(({ dockerId, state, startedAt }) => [
    dockerId,
    state,
    startedAt,
  ]);
}

function withAmounts(set: DesiredSet, cpuMillis: number, mebibytes: number) {
  return { template: { ...set.template, cpuMillis, memoryBytes: mebibytes * 2 ** 20 } };
}

describe("an agent and the size of a set", () => {
  it("applies a new size in one step without a restart", async () => {
    const { simulation, set } = await runningSet();
    const before = runsOf(simulation, set);
    for (const [cpuMillis, mebibytes] of [
      [4_000, 512],
      [250, 32],
    ] as const) {
      simulation.change(set, withAmounts(set, cpuMillis, mebibytes));
      await simulation.pass(5_000);
      expect(simulation.differences()).toEqual([]);
      expect(simulation.changes.splice(0)).toEqual([`resize ${set.setId}`]);
      expect(runsOf(simulation, set)).toEqual(before);
    }
  });

  it("reports the machine's usage immediately after a resize", async () => {
    const { simulation, set } = await runningSet();
    const { received } = simulation.plane;
    const before = received.length;
    simulation.change(set, withAmounts(set, 4_000, 512));
    await simulation.pass(500);
    expect(received.slice(before).filter(({ usage }) => usage !== null)).toHaveLength(1);
  });

  it.each(["set", "container"])(
    "corrects foreign changes of the limits of a %s without an event",
    async (part) => {
      const { simulation, set } = await runningSet();
      const before = runsOf(simulation, set);
      const { infra, containers } = seen(simulation, set);
      const { dockerId = "" } = (part === "set" ? infra : containers[0]) ?? {};
      simulation.engine.limitExternally(dockerId, foreignLimits);
      expect(simulation.differences()).not.toEqual([]);
      await simulation.pass(lookMs);
      expect(simulation.differences()).toEqual([]);
      expect(simulation.changes).toEqual([`resize ${set.setId}`]);
      expect(runsOf(simulation, set)).toEqual(before);
    },
  );

  it("completes a resize during which it was killed", async () => {
    const { simulation, set } = await runningSet();
    const before = runsOf(simulation, set);
    simulation.hanging.add("resize");
    simulation.change(set, withAmounts(set, 3_000, 256));
    await simulation.pass(5_000);
    simulation.kill();
    simulation.hanging.clear();
    simulation.start();
    await simulation.pass(10_000);
    expect(simulation.differences()).toEqual([]);
    expect(runsOf(simulation, set)).toEqual(before);
  });

  it("applies a size that arrives during a resize without a wait", async () => {
    const { simulation, set } = await runningSet();
    simulation.hanging.add("resize");
    simulation.change(set, withAmounts(set, 3_000, 256));
    await simulation.pass(2_000);
    simulation.change(set, withAmounts(set, 4_000, 512));
    await simulation.pass(2_000);
    simulation.hanging.clear();
    // Enough for both resizes; the shortest backoff is longer than the remaining time.
    await simulation.pass(900);
    expect(simulation.differences()).toEqual([]);
    expect(simulation.changes).toEqual([`resize ${set.setId}`, `resize ${set.setId}`]);
  });

  it("reports memory in use, retries with backoff, and leaves the set running", async () => {
    const { simulation, set } = await runningSet();
    const before = runsOf(simulation, set);
    const holder = seen(simulation, set).containers[0]?.dockerId ?? "";
    simulation.engine.hold(holder, 48 * 2 ** 20);
    simulation.change(set, withAmounts(set, 1_000, 64));
    await simulation.pass(600_000);
    expect(simulation.plane.reportOf(set.setId)).toMatchObject({
      state: "running",
      ready: true,
      reason: { code: "memory-in-use", phase: "resize" },
      sized: false,
      sizeRefused: true,
    });
    expect(new Set(simulation.changes)).toEqual(new Set([`resize ${set.setId}`]));
    expect(simulation.changes.length).toBeGreaterThan(5);
    expect(simulation.changes.length).toBeLessThan(25);
    expect(runsOf(simulation, set)).toEqual(before);
    simulation.engine.hold(holder, 0);
    await simulation.pass(lookMs);
    expect(simulation.differences()).toEqual([]);
    const report = { reason: null, sized: true, sizeRefused: false };
    expect(simulation.plane.reportOf(set.setId)).toMatchObject(report);
    expect(runsOf(simulation, set)).toEqual(before);
  });

  it("reports a refused size only after several attempts, and restarts the count for another size", async () => {
    const { simulation, set } = await runningSet();
    simulation.engine.hold(seen(simulation, set).containers[0]?.dockerId ?? "", 48 * 2 ** 20);
    simulation.change(set, withAmounts(set, 1_000, 64));
    await simulation.pass(5_000);
    const report = () => simulation.plane.reportOf(set.setId);
    expect(report()).toMatchObject({ sized: false, sizeRefused: false });
    await simulation.pass(25_000);
    expect(report()).toMatchObject({ sized: false, sizeRefused: true });
    simulation.change(set, withAmounts(set, 1_000, 256));
    await simulation.pass(5_000);
    expect(report()).toMatchObject({ sized: true, sizeRefused: false });
  });

  it("resizes a stopped set", async () => {
    const { simulation, set } = await runningSet();
    simulation.change(set, { desired: "stopped" });
    await simulation.pass(5_000);
    simulation.change(set, { desired: "stopped", ...withAmounts(set, 4_000, 512) });
    await simulation.pass(5_000);
    expect(simulation.changes).toEqual([`stopAll ${set.setId}`, `resize ${set.setId}`]);
    const report = { state: "stopped", reason: null, sized: true };
    expect(simulation.plane.reportOf(set.setId)).toMatchObject(report);
  });

  it("backs off when a resize has no effect", async () => {
    const { simulation, set } = await runningSet();
    const { engine } = simulation;
    const resize = engine.resize.bind(engine);
    engine.resize = () => undefined;
    simulation.change(set, withAmounts(set, 2_000, 128));
    await simulation.pass(600_000);
    expect(simulation.changes.length).toBeGreaterThan(5);
    expect(simulation.changes.length).toBeLessThan(25);
    engine.resize = resize;
    await simulation.pass(lookMs);
    expect(simulation.differences()).toEqual([]);
  });
});
