import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import { AgentSimulation } from "../agent/agent-simulation.ts";

/** A host that has started these sets, with an empty list of changes. */
export async function runningHost(setCount = 2, options: object = {}) {
  const simulation = new AgentSimulation(42);
  simulation.addForeign(1);
  const sets = Array.from({ length: setCount }, () =>
    simulation.want({ names: ["app", "log"], options }),
  );
  simulation.start();
  await simulation.pass(5_000);
  const differences = simulation.differences();
  if (differences.length > 0) throw new Error(`not as desired: ${differences.join(", ")}`);
  simulation.changes.length = 0;
  return { simulation, sets };
}

/** Returns the observed container of this name. */
export function containerOf(simulation: AgentSimulation, { setId }: DesiredSet, name: string) {
  const seen = simulation.observed(setId);
  const found = [seen?.infra, ...(seen?.containers ?? [])].find((one) => one?.name === name);
  if (!found) throw new Error(`${setId} has no ${name}`);
  return found;
}

export function lastReport({ plane }: AgentSimulation, { setId }: DesiredSet) {
  return plane.reportOf(setId);
}
