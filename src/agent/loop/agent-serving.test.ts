import { expect, it } from "vitest";
import type { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

/** Wants a set with a drain time that serves without its container "log". */
function wantServing(simulation: AgentSimulation): DesiredSet {
  const wanted = simulation.want({ names: ["app", "log"] });
  const template = { ...structuredClone(wanted.template), drainSeconds: 5 };
  for (const { name, options } of template.containers)
    if (name === "log") options.serving = "optional";
  return simulation.change(wanted, { template });
}

async function runningServing() {
  const { simulation } = await runningHost(0);
  const set = wantServing(simulation);
  await simulation.pass(30_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  simulation.changes.length = 0;
  simulation.plane.received.length = 0;
  return { simulation, set };
}

/** The readiness of each report since the start of the test. */
const listReadiness = ({ plane }: AgentSimulation) =>
  plane.received.flatMap(({ observed }) => observed.map(({ ready }) => ready));

it("a set is ready for the first time with all of its containers", async () => {
  const { simulation } = await runningHost(0);
  simulation.failing.add("start");
  const set = wantServing(simulation);
  await simulation.pass(1_000);
  simulation.engine.start("host_own", set.setId, "app");
  await simulation.pass(1_000);
  expect(lastReport(simulation, set)).toMatchObject({ ready: false });
});

it("a set that has run is ready without an optional container, and says what it lacks", async () => {
  const { simulation, set } = await runningServing();
  simulation.failing.add("start");
  simulation.engine.exit(containerOf(simulation, set, "log").dockerId);
  await simulation.pass(30_000);
  expect(listReadiness(simulation)).not.toContain(false);
  const report = lastReport(simulation, set);
  expect(report).toMatchObject({ state: "running", ready: true });
  expect(report?.reason?.code).toBe("docker-error");
  expect(report?.containers.map(({ ready }) => ready)).toEqual([true, false]);
});

it("an update of an optional container neither drains the set nor makes it unready", async () => {
  const { simulation, set } = await runningServing();
  const before = simulation.observed(set.setId);
  const template = structuredClone(set.template);
  for (const { name, options } of template.containers)
    if (name === "log") options.command = ["other"];
  simulation.change(set, { template });
  await simulation.pass(2_000);
  expect(simulation.changes).toEqual([`prepareContainer ${set.setId}`, `start ${set.setId}`]);
  expect(listReadiness(simulation)).not.toContain(false);
  expect(simulation.observed(set.setId)?.containers[0]).toEqual(before?.containers[0]);
  await simulation.pass(30_000);
  expect(simulation.differences()).toEqual([]);
});

it("an update of all containers drains the set before the required one stops", async () => {
  const { simulation, set } = await runningServing();
  const { dockerId } = containerOf(simulation, set, "app");
  const template = structuredClone(set.template);
  for (const { options } of template.containers) options.command = ["other"];
  simulation.change(set, { template });
  await simulation.pass(4_800);
  expect(containerOf(simulation, set, "app").dockerId).toBe(dockerId);
  expect(lastReport(simulation, set)).toMatchObject({ ready: false });
  await simulation.pass(30_000);
  expect(simulation.differences()).toEqual([]);
});

it("an optional container is not reported ready before its update has replaced it", async () => {
  const { simulation, set } = await runningServing();
  simulation.failing.add("prepareContainer");
  const template = structuredClone(set.template);
  for (const { name, options } of template.containers)
    if (name === "log") options.command = ["other"];
  const changed = simulation.change(set, { template });
  await simulation.pass(2_000);
  const report = lastReport(simulation, set);
  expect(report).toMatchObject({ generation: changed.generation, ready: true });
  expect(report?.containers.map(({ ready }) => ready)).toEqual([true, false]);
  simulation.failing.clear();
  await simulation.pass(60_000);
  expect(lastReport(simulation, set)?.containers.map(({ ready }) => ready)).toEqual([true, true]);
});
