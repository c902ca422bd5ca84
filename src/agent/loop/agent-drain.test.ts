import { describe, expect, it } from "vitest";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

/** A running set with a drain time of 5 s. */
async function runningSet() {
  const { simulation } = await runningHost(0);
  const wanted = simulation.want({ names: ["app", "log"] });
  const template = { ...wanted.template, drainSeconds: 5 };
  const set = simulation.change(wanted, { template });
  await simulation.pass(30_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  simulation.changes.length = 0;
  return { simulation, set };
}

function withOtherCommand({ template }: DesiredSet, name: string): DesiredSet["template"] {
  const changed = structuredClone(template);
  for (const container of changed.containers)
    if (container.name === name) container.options.command = ["other"];
  return changed;
}

type Order = (set: DesiredSet) => Partial<DesiredSet>;
const orders: [string, Order, string][] = [
  ["a stop", () => ({ desired: "stopped" }), "stopAll"],
  ["a deletion", () => ({ desired: "deleted" }), "stopAll"],
  ["a restart", (set) => ({ restartGeneration: set.generation + 1 }), "prepare"],
  ["an update", (set) => ({ template: withOtherCommand(set, "log") }), "prepareContainer"],
];

describe.each(orders)("%s of a ready set", (_what, order, verb) => {
  it("takes it out of the endpoints immediately, and stops it after its drain time", async () => {
    const { simulation, set } = await runningSet();
    const { dockerId } = containerOf(simulation, set, "log");
    const changed = simulation.change(set, order(set));
    await simulation.pass(4_800);
    expect(simulation.changes).toEqual([]);
    expect(lastReport(simulation, changed)).toMatchObject({ ready: false });
    expect(lastReport(simulation, changed)?.generation).toBe(changed.generation);
    expect(containerOf(simulation, set, "log")).toMatchObject({ dockerId, state: "running" });
    await simulation.pass(400);
    expect(simulation.changes[0]).toBe(`${verb} ${set.setId}`);
    await simulation.pass(60_000);
    expect(simulation.differences()).toEqual([]);
  });

  it("drains it again after a restart of the agent", async () => {
    const { simulation, set } = await runningSet();
    simulation.change(set, order(set));
    await simulation.pass(4_000);
    simulation.kill();
    simulation.start();
    await simulation.pass(4_800);
    expect(simulation.changes).toEqual([]);
    await simulation.pass(60_000);
    expect(simulation.differences()).toEqual([]);
  });
});

it("a set that is down does not wait for a drain time", async () => {
  const { simulation, set } = await runningSet();
  simulation.failing.add("start");
  for (const name of ["app", "log"])
    simulation.engine.exit(containerOf(simulation, set, name).dockerId);
  await simulation.pass(100);
  simulation.change(set, { desired: "deleted" });
  await simulation.pass(1_000);
  expect(simulation.observed(set.setId)).toBeUndefined();
});

it("a crash of infra ends without a drain time", async () => {
  const { simulation, set } = await runningSet();
  simulation.engine.exit(containerOf(simulation, set, "infra").dockerId);
  await simulation.pass(2_000);
  expect(simulation.changes[0]).toBe(`prepare ${set.setId}`);
});

it("a set that Docker does not describe stops after its drain time", async () => {
  const { simulation, set } = await runningSet();
  simulation.unseen.add(set.setId);
  simulation.engine.exit(containerOf(simulation, set, "log").dockerId);
  await simulation.pass(1_000);
  simulation.change(set, { desired: "deleted" });
  await simulation.pass(4_800);
  expect(simulation.changes).toEqual([]);
  await simulation.pass(60_000);
  expect(simulation.changes).toContain(`remove ${set.setId}`);
});

it("an update that is taken back while the set drains stops nothing", async () => {
  const { simulation, set } = await runningSet();
  const changed = simulation.change(set, { template: withOtherCommand(set, "log") });
  await simulation.pass(3_000);
  const back = simulation.change(changed, { template: set.template });
  await simulation.pass(1_000);
  expect(lastReport(simulation, back)).toMatchObject({ ready: true });
  await simulation.pass(30_000);
  expect(simulation.changes).toEqual([]);
});
