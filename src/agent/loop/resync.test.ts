import { expect, it } from "vitest";
import { containerOf, runningHost } from "../../../test/support/fleet/running-host.ts";

it("a set that cannot be observed does not keep the others from being corrected", async () => {
  const { simulation, sets } = await runningHost(2);
  const [stuck, other] = sets;
  if (!stuck || !other) throw new Error("two sets are created");
  simulation.losesEvents = true;
  simulation.unseen.add(stuck.setId);
  for (const set of sets) simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
  await simulation.pass(65_000);
  expect(containerOf(simulation, other, "app").state).toBe("running");
  expect(containerOf(simulation, stuck, "app").state).toBe("exited");
  simulation.unseen.clear();
  await simulation.pass(65_000);
  expect(simulation.differences()).toEqual([]);
});

it("a set that cannot be observed when the agent starts is never removed", async () => {
  const { simulation, sets } = await runningHost(2);
  const [stuck] = sets;
  if (!stuck) throw new Error("a set is created");
  simulation.kill();
  simulation.unseen.add(stuck.setId);
  simulation.start();
  await simulation.pass(60_000);
  expect(simulation.changes).toEqual([]);
  simulation.unseen.clear();
  await simulation.pass(65_000);
  expect(simulation.differences()).toEqual([]);
});

it("a change before events arrive again is seen when they do", async () => {
  const { simulation, sets } = await runningHost(1);
  const [set] = sets;
  if (!set) throw new Error("a set is created");
  await simulation.pass(20_000);
  simulation.losesEvents = true;
  simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
  simulation.losesEvents = false;
  simulation.reopenEvents();
  await simulation.pass(3_000);
  expect(containerOf(simulation, set, "app").state).toBe("running");
});
