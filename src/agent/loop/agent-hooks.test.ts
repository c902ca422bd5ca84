import { expect, it } from "vitest";
import type { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";
import type { ProbeResult } from "../model/local-set.ts";

const exec = { exec: { command: ["/bin/warm-up"] }, timeoutSeconds: 10 };
const http = { http: { port: 80, path: "/warm-up" }, timeoutSeconds: 10 };
const failed: ProbeResult = { healthy: false, detail: "exited with 1" };

/** A host whose hooks end as `outcome` says, and a new set with a hook after each start. */
async function hookedSet(postStart: object, outcome: () => ProbeResult) {
  const { simulation } = await runningHost(0);
  simulation.engine.options.postStart = () => outcome();
  const set = simulation.want({ names: ["app"], options: { hooks: { postStart } } });
  return { simulation, set };
}

const countHooks = ({ callCounts }: AgentSimulation) => callCounts.get("postStart") ?? 0;

function restartsOf(simulation: AgentSimulation, set: DesiredSet) {
  return lastReport(simulation, set)?.containers.map(({ restarts }) => restarts);
}

/** The report that gives the set up; undefined if there is none. */
function findGivenUp({ plane }: AgentSimulation, { setId }: DesiredSet) {
  const reports = plane.received.flatMap(({ observed }) => observed);
  return reports.find((report) => report.setId === setId && report.gaveUp);
}

it("a set is ready only after the hook, which runs once for each start", async () => {
  const { simulation, set } = await hookedSet(exec, () => ({ healthy: true }));
  simulation.hanging.add("postStart");
  await simulation.pass(5_000);
  expect(containerOf(simulation, set, "app").state).toBe("running");
  expect(lastReport(simulation, set)).toMatchObject({ state: "starting", ready: false });
  simulation.hanging.clear();
  await simulation.pass(5_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  expect(countHooks(simulation)).toBe(1);
  simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
  await simulation.pass(5_000);
  expect(lastReport(simulation, set)).toMatchObject({ ready: true });
  expect(countHooks(simulation)).toBe(2);
  simulation.kill();
  simulation.start();
  await simulation.pass(60_000);
  expect(countHooks(simulation)).toBe(2);
  expect(simulation.violations).toEqual([]);
});

it("a new set whose hook fails is given up after its third start", async () => {
  const { simulation, set } = await hookedSet(exec, () => failed);
  await simulation.pass(120_000);
  expect(countHooks(simulation)).toBe(3);
  expect(findGivenUp(simulation, set)?.reason?.code).toBe("hook-failed");
});

it("a set that has run restarts the container with backoff, and counts the restarts", async () => {
  let outcome: ProbeResult = { healthy: true };
  const { simulation, set } = await hookedSet(exec, () => outcome);
  await simulation.pass(10_000);
  outcome = failed;
  simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
  await simulation.pass(300_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: false });
  expect(countHooks(simulation)).toBeGreaterThan(4);
  // After 1, 2, 4, … 60 s.
  expect(countHooks(simulation)).toBeLessThan(14);
  expect(restartsOf(simulation, set)?.[0]).toBeGreaterThan(3);
  outcome = { healthy: true };
  await simulation.pass(120_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
});

it("a request is repeated within the timeout of the hook, because the program may not listen yet", async () => {
  let calls = 0;
  const { simulation, set } = await hookedSet(http, () =>
    ++calls < 5 ? failed : { healthy: true },
  );
  await simulation.pass(9_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  expect(simulation.engine.countStarts(containerOf(simulation, set, "app").dockerId)).toBe(1);
  expect(calls).toBe(5);
});

it("a request that always fails is a failed start after the timeout of the hook", async () => {
  const { simulation, set } = await hookedSet(http, () => failed);
  await simulation.pass(9_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "starting" });
  await simulation.pass(120_000);
  expect(findGivenUp(simulation, set)?.reason?.code).toBe("hook-failed");
});

it("a hook that the daemon does not run counts as a failed step, and is tried again", async () => {
  const { simulation, set } = await hookedSet(exec, () => ({ healthy: true }));
  simulation.failing.add("postStart");
  await simulation.pass(3_000);
  expect(lastReport(simulation, set)).toMatchObject({ reason: { code: "docker-error" } });
  simulation.failing.clear();
  await simulation.pass(10_000);
  expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
});
