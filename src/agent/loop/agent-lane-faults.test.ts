import { describe, expect, it } from "vitest";
import type { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

const slowCheck = { health: { tcp: { port: 80 }, intervalSeconds: 2, startPeriodSeconds: 600 } };

/** A running set of the containers "app" (index 0) and "log" (index 1). */
async function runningPair(
  options: object = {},
): Promise<{ simulation: AgentSimulation; set: DesiredSet }> {
  const { simulation } = await runningHost(0);
  const set = simulation.want({ names: ["app", "log"], options });
  await simulation.pass(30_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  return { simulation, set };
}

function breakLog(simulation: AgentSimulation, set: DesiredSet): void {
  simulation.hangs = ({ verb }) => verb === "prepareContainer";
  simulation.engine.removeExternally(containerOf(simulation, set, "log").dockerId);
}

describe("the order of a set's containers", () => {
  it("starts the next version of a migration before the next version of its application", async () => {
    const { simulation } = await runningHost(0);
    const wanted = simulation.want({ names: ["job", "app"] });
    const template = structuredClone(wanted.template);
    for (const { name, options } of template.containers)
      if (name === "job") options.restart = { on: "never" };
    const set = simulation.change(wanted, { template });
    await simulation.pass(3_000);
    simulation.engine.exit(containerOf(simulation, set, "job").dockerId, 0);
    await simulation.pass(10_000);
    const appId = containerOf(simulation, set, "app").dockerId;
    const next = structuredClone(template);
    for (const { options } of next.containers) options.command = ["v2"];
    const [migration] = next.containers;
    const [missing] = simulation.withMissingImage(set).containers;
    if (!migration || !missing) throw new Error("the set has a job");
    migration.image = missing.image;
    simulation.hangs = ({ verb }) => verb === "pull";
    const changed = simulation.change(set, { template: next });
    await simulation.pass(5_000);
    expect(containerOf(simulation, set, "app")).toMatchObject({
      dockerId: appId,
      state: "running",
    });
    migration.image = "menu:2";
    simulation.hangs = ({ verb }) => verb === "start";
    const last = simulation.change(changed, { template: next });
    await simulation.pass(5_000);
    expect(containerOf(simulation, last, "job").state).toBe("created");
    expect(containerOf(simulation, last, "app").dockerId).toBe(appId);
    simulation.hangs = () => false;
    await simulation.pass(5_000);
    expect(containerOf(simulation, last, "app").dockerId).not.toBe(appId);
  });

  it("does not delay the restart of a container by one with a lower index that fails", async () => {
    const { simulation, set } = await runningPair();
    simulation.failing.add("prepareContainer");
    simulation.engine.removeExternally(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(5_000);
    simulation.engine.exit(containerOf(simulation, set, "log").dockerId);
    await simulation.pass(10_000);
    expect(containerOf(simulation, set, "log").state).toBe("running");
  });
});

describe("a set with running containers", () => {
  it("is not given up because the image of a restart is missing", async () => {
    const { simulation, set } = await runningPair();
    const template = simulation.withMissingImage(set);
    const next = simulation.change(set, { template, restartGeneration: set.generation + 1 });
    await simulation.pass(60_000);
    expect(lastReport(simulation, next)).toMatchObject({
      gaveUp: false,
      reason: { code: "image-not-found" },
    });
    expect(containerOf(simulation, set, "app").state).toBe("running");
  });

  it("starts again without a missing image after its infra container was deleted", async () => {
    const { simulation, set } = await runningPair();
    simulation.engine.options.hasImage = () => false;
    simulation.engine.removeExternally(containerOf(simulation, set, "infra").dockerId);
    await simulation.pass(30_000);
    expect(containerOf(simulation, set, "infra").state).toBe("running");
    simulation.engine.options.hasImage = () => true;
    await simulation.pass(70_000);
    expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  });

  it("fails with the reason of an image that exists and cannot be used", async () => {
    const { simulation } = await runningHost(0);
    simulation.engine.options.hasImage = () => false;
    simulation.engine.pullImages = () => undefined;
    const set = simulation.want();
    await simulation.pass(60_000);
    const reports = simulation.plane.received.flatMap(({ observed }) => observed);
    expect(reports.filter(({ setId }) => setId === set.setId)).toContainEqual(
      expect.objectContaining({
        gaveUp: true,
        reason: expect.objectContaining({ code: "image-missing" }),
      }),
    );
  });

  it("reports no container as healthy that this agent started and has not probed", async () => {
    const { simulation, set } = await runningPair(slowCheck);
    breakLog(simulation, set);
    await simulation.pass(2_000);
    simulation.kill();
    simulation.hangs = ({ verb }) => verb === "probe";
    simulation.start();
    await simulation.pass(10_000);
    const log = lastReport(simulation, set)?.containers.find(({ name }) => name === "log");
    expect(log).toMatchObject({ state: "running", ready: false });
  });
});

describe("a step that hangs", () => {
  it("does not delay the restart of infra", async () => {
    const { simulation, set } = await runningPair();
    breakLog(simulation, set);
    await simulation.pass(3_000);
    simulation.engine.exit(containerOf(simulation, set, "infra").dockerId);
    await simulation.pass(7_000);
    const reports = simulation.plane.received.flatMap(({ observed }) => observed);
    expect(reports.map(({ reason }) => reason?.text)).toContain('"infra" exited with code 137');
    expect(containerOf(simulation, set, "infra").state).toBe("running");
    expect(containerOf(simulation, set, "app").state).toBe("running");
  });

  it("does not delay a stop, and a resize does not either", async () => {
    const { simulation, set } = await runningPair();
    simulation.hangs = ({ verb }) => verb === "resize";
    const template = { ...set.template, cpuMillis: 500 };
    const next = simulation.change(set, { template });
    await simulation.pass(3_000);
    const stopped = simulation.change(next, { desired: "stopped" });
    await simulation.pass(5_000);
    expect(lastReport(simulation, stopped)).toMatchObject({ state: "stopped" });
  });

  it("delays neither a resize nor the correction of a lost event", async () => {
    const { simulation, set } = await runningPair();
    breakLog(simulation, set);
    await simulation.pass(3_000);
    simulation.changes.length = 0;
    const next = simulation.change(set, { template: { ...set.template, cpuMillis: 500 } });
    await simulation.pass(5_000);
    expect(simulation.changes).toContain(`resize ${set.setId}`);
    simulation.losesEvents = true;
    simulation.engine.exit(containerOf(simulation, next, "app").dockerId);
    simulation.losesEvents = false;
    simulation.reopenEvents();
    await simulation.pass(40_000);
    expect(containerOf(simulation, next, "app").state).toBe("running");
  });
});

describe("a set that cannot be observed", () => {
  it("is removed all the same", async () => {
    const { simulation, set } = await runningPair();
    simulation.unseen.add(set.setId);
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(10_000);
    simulation.change(set, { desired: "deleted" });
    await simulation.pass(10_000);
    expect(simulation.observed(set.setId)).toBeUndefined();
    expect(simulation.changes.filter((change) => change.startsWith("remove")).length).toBeLessThan(
      8,
    );
  });

  it("is not given up after two failures long after each other", async () => {
    const { simulation } = await runningHost(0);
    simulation.engine.options.probe = () => ({ healthy: false, detail: "warming up" });
    const set = simulation.want({ names: ["app"], options: slowCheck });
    for (let failure = 0; failure < 2; failure++) {
      await simulation.pass(200);
      simulation.unseen.add(set.setId);
      simulation.reopenEvents();
      await simulation.pass(1_500);
      simulation.unseen.delete(set.setId);
      await simulation.pass(62_000);
    }
    expect(lastReport(simulation, set)).toMatchObject({
      gaveUp: false,
      reason: { code: "not-healthy" },
    });
  });
});

describe("a stop by Berth", () => {
  it("does not count as a restart after the next start", async () => {
    const { simulation, set } = await runningPair();
    const stopped = simulation.change(set, { desired: "stopped" });
    await simulation.pass(80);
    const started = simulation.change(stopped, { desired: "running" });
    await simulation.pass(20_000);
    const report = lastReport(simulation, started);
    expect(report?.containers.map(({ restarts }) => restarts)).toEqual([0, 0]);
  });
});
