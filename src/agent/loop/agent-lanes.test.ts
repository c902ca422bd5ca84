import { describe, expect, it } from "vitest";
import type { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

/** A running set of the containers "app" and "log". */
async function runningPair(): Promise<{ simulation: AgentSimulation; set: DesiredSet }> {
  const { simulation } = await runningHost(0);
  const set = simulation.want({ names: ["app", "log"] });
  await simulation.pass(30_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  return { simulation, set };
}

/** A new version of the set, whose container `name` has another command and maybe no image. */
function changeContainer(
  simulation: AgentSimulation,
  set: DesiredSet,
  { name, lacksImage = false }: { name: string; lacksImage?: boolean },
): DesiredSet {
  const template = structuredClone(set.template);
  const [missing] = simulation.withMissingImage(set).containers;
  for (const container of template.containers) {
    if (container.name !== name) continue;
    container.options.command = ["other"];
    if (lacksImage && missing) container.image = missing.image;
  }
  return simulation.change(set, { template });
}

describe("a container of a running set that fails", () => {
  it("takes no other container down, and delays none of their restarts", async () => {
    const { simulation, set } = await runningPair();
    const appId = containerOf(simulation, set, "app").dockerId;
    simulation.hangs = ({ verb }) => verb === "pull";
    const changed = changeContainer(simulation, set, { name: "log", lacksImage: true });
    await simulation.pass(10_000);
    expect(containerOf(simulation, set, "app")).toMatchObject({
      dockerId: appId,
      state: "running",
    });
    // The container whose image is missing runs on, too.
    expect(containerOf(simulation, set, "log").state).toBe("running");
    simulation.engine.exit(appId);
    await simulation.pass(5_000);
    expect(containerOf(simulation, set, "app")).toMatchObject({
      dockerId: appId,
      state: "running",
    });
    expect(lastReport(simulation, changed)).toMatchObject({ ready: false });
  });

  it("has its own reason and backoff", async () => {
    const { simulation, set } = await runningPair();
    simulation.failing.add("prepareContainer");
    simulation.engine.removeExternally(containerOf(simulation, set, "log").dockerId);
    await simulation.pass(30_000);
    const report = lastReport(simulation, set);
    const reasons = report?.containers.map(({ name, reason }) => [name, reason?.code]);
    expect(reasons).toEqual([
      ["app", undefined],
      ["log", "docker-error"],
    ]);
    // 1, 2, 4, 8 and 16 s after each other, with jitter
    expect(simulation.callCounts.get("prepareContainer")).toBeLessThanOrEqual(6);
    const appId = containerOf(simulation, set, "app").dockerId;
    simulation.engine.exit(appId);
    await simulation.pass(3_000);
    expect(containerOf(simulation, set, "app")).toMatchObject({
      dockerId: appId,
      state: "running",
    });
  });

  it("is replaced while the same infra container and the others run on", async () => {
    const { simulation, set } = await runningPair();
    const before = simulation.observed(set.setId);
    changeContainer(simulation, set, { name: "log" });
    await simulation.pass(10_000);
    const after = simulation.observed(set.setId);
    expect(after?.infra).toEqual(before?.infra);
    expect(after?.containers[0]).toEqual(before?.containers[0]);
    expect(after?.containers[1]?.dockerId).not.toBe(before?.containers[1]?.dockerId);
    expect(after?.containers[1]?.state).toBe("running");
    expect(simulation.violations).toEqual([]);
  });
});

describe("an update of two containers", () => {
  it("stops none of them before both images are there", async () => {
    const { simulation, set } = await runningPair();
    const before = simulation.observed(set.setId);
    simulation.hangs = ({ verb }) => verb === "pull";
    const changed = changeContainer(simulation, set, { name: "log", lacksImage: true });
    const both = changeContainer(simulation, changed, { name: "app" });
    await simulation.pass(20_000);
    expect(simulation.observed(set.setId)).toEqual(before);
    expect(simulation.callCounts.get("prepareContainer")).toBeLessThanOrEqual(3);
    expect(lastReport(simulation, both)).toMatchObject({
      state: "running",
      ready: false,
      reason: { code: "image-pulling" },
    });
    simulation.hangs = () => false;
    const { image } = set.template.containers[1] ?? {};
    const template = structuredClone(both.template);
    for (const container of template.containers) container.image = image ?? "";
    simulation.change(both, { template });
    await simulation.pass(20_000);
    expect(simulation.differences()).toEqual([]);
    expect(simulation.observed(set.setId)?.infra).toEqual(before?.infra);
  });
});

describe("an update of the only container", () => {
  it("never gives the set up, and goes back to the earlier spec", async () => {
    const { simulation } = await runningHost(0);
    const set = simulation.want({ names: ["app"] });
    await simulation.pass(30_000);
    simulation.failing.add("start");
    const changed = changeContainer(simulation, set, { name: "app" });
    await simulation.pass(120_000);
    expect(lastReport(simulation, changed)).toMatchObject({
      state: "running",
      ready: false,
      gaveUp: false,
      reason: { code: "docker-error" },
    });
    simulation.failing.clear();
    const back = simulation.change(changed, { template: set.template });
    await simulation.pass(120_000);
    expect(lastReport(simulation, back)).toMatchObject({ state: "running", ready: true });
  });
});

describe("a step that hangs", () => {
  it("does not delay another container of its set", async () => {
    const { simulation, set } = await runningPair();
    const appId = containerOf(simulation, set, "app").dockerId;
    simulation.hangs = ({ verb }) => verb === "prepareContainer";
    changeContainer(simulation, set, { name: "log" });
    await simulation.pass(3_000);
    simulation.engine.exit(appId);
    await simulation.pass(5_000);
    expect(containerOf(simulation, set, "app")).toMatchObject({
      dockerId: appId,
      state: "running",
    });
  });

  it("does not delay the stop of its set", async () => {
    const { simulation, set } = await runningPair();
    simulation.hangs = ({ verb }) => verb === "pull";
    const changed = changeContainer(simulation, set, { name: "log", lacksImage: true });
    await simulation.pass(5_000);
    const stopped = simulation.change(changed, { desired: "stopped" });
    await simulation.pass(5_000);
    expect(lastReport(simulation, stopped)).toMatchObject({ state: "stopped" });
  });
});

it("does not start a job again after an observation from before its start", async () => {
  const { simulation } = await runningHost(0);
  const wanted = simulation.want({ names: ["job", "app"] });
  const template = structuredClone(wanted.template);
  for (const { name, options } of template.containers)
    if (name === "job") options.restart = { on: "never" };
  const held = { start: true, observe: false };
  simulation.hangs = ({ verb, at }) =>
    (verb === "start" && held.start) || (verb === "observe" && at === "end" && held.observe);
  const set = simulation.change(wanted, { template });
  await simulation.pass(1_000);
  const jobId = containerOf(simulation, set, "job").dockerId;
  held.observe = true;
  simulation.engine.removeExternally(containerOf(simulation, set, "app").dockerId);
  await simulation.pass(2_000);
  held.start = false;
  await simulation.pass(1_000);
  simulation.engine.exit(jobId, 0);
  held.observe = false;
  await simulation.pass(30_000);
  expect(simulation.engine.countStarts(jobId)).toBe(1);
  expect(containerOf(simulation, set, "app").state).toBe("running");
});

it("does not count the failure of an earlier generation", async () => {
  const { simulation } = await runningHost(0);
  const wanted = simulation.want();
  const old = simulation.change(wanted, { template: simulation.withMissingImage(wanted) });
  simulation.hangs = ({ verb }) => verb === "pull";
  await simulation.pass(5_000);
  const set = simulation.change(old, { template: simulation.withMissingImage(wanted) });
  const next = simulation.change(set, { template: wanted.template });
  simulation.hangs = () => false;
  await simulation.pass(30_000);
  expect(lastReport(simulation, next)).toMatchObject({ state: "running", gaveUp: false });
});
