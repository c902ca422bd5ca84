import { describe, expect, it } from "vitest";
import { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

/** Runs a set whose job has completed, and then deletes the stopped containers. */
async function pruneAfterJob(
  exitCode = 0,
): Promise<{ simulation: AgentSimulation; set: DesiredSet }> {
  const simulation = new AgentSimulation(3);
  const made = simulation.want({ names: ["job", "app"] });
  const template = structuredClone(made.template);
  for (const { name, options } of template.containers)
    if (name === "job") options.restart = { on: "never" };
  const set = simulation.change(made, { template });
  simulation.start();
  await simulation.pass(30_000);
  const jobId = find(simulation, set, "job")?.dockerId ?? "";
  simulation.engine.exit(jobId, exitCode);
  await simulation.pass(30_000);
  simulation.engine.removeExternally(jobId);
  return { simulation, set };
}

function find(simulation: AgentSimulation, { setId }: DesiredSet, wanted: string) {
  return simulation.observed(setId)?.containers.find(({ name }) => name === wanted);
}

describe("a job that has completed and whose container someone deletes", () => {
  it("does not run again, and is reported as exited", async () => {
    const { simulation, set } = await pruneAfterJob();
    await simulation.pass(60_000);
    expect(find(simulation, set, "job")).toBeUndefined();
    expect(simulation.plane.reportOf(set.setId)).toMatchObject({ state: "running", ready: true });
    const reported = simulation.plane.reportOf(set.setId)?.containers;
    expect(reported?.find(({ name }) => name === "job")).toMatchObject({
      state: "exited",
      ready: true,
      exitCode: 0,
    });
  });

  it("does not run again after a restart of the agent", async () => {
    const { simulation, set } = await pruneAfterJob();
    await simulation.stop();
    simulation.start();
    await simulation.pass(60_000);
    expect(find(simulation, set, "job")).toBeUndefined();
    expect(simulation.plane.reportOf(set.setId)).toMatchObject({ state: "running", ready: true });
  });

  it("does not run again when another container is created again", async () => {
    const { simulation, set } = await pruneAfterJob();
    await simulation.pass(60_000);
    simulation.engine.removeExternally(find(simulation, set, "app")?.dockerId ?? "");
    await simulation.pass(60_000);
    expect(find(simulation, set, "app")?.state).toBe("running");
    expect(find(simulation, set, "job")).toBeUndefined();
  });

  it("reports its failure", async () => {
    const { simulation, set } = await pruneAfterJob(3);
    await simulation.pass(60_000);
    expect(simulation.plane.reportOf(set.setId)).toMatchObject({
      ready: false,
      reason: { code: "container-exited" },
    });
  });

  it("runs again with the next start of the set, and with a restart", async () => {
    const { simulation, set } = await pruneAfterJob();
    await simulation.pass(60_000);
    simulation.engine.exit(simulation.observed(set.setId)?.infra?.dockerId ?? "");
    await simulation.pass(60_000);
    expect(find(simulation, set, "job")?.state).toBe("running");
    const { simulation: other, set: restarted } = await pruneAfterJob();
    other.change(restarted, { restartGeneration: restarted.generation + 1 });
    await other.pass(60_000);
    expect(find(other, restarted, "job")?.state).toBe("running");
  });
});
