import { describe, expect, it } from "vitest";
import { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

const minuteMs = 60_000;

function countPreparations(simulation: AgentSimulation): number {
  return simulation.changes.filter((change) => change.startsWith("prepare")).length;
}

/** The codes of the reasons in all reports of the set. */
function listReasons({ plane }: AgentSimulation, { setId }: DesiredSet): string[] {
  return plane.received.flatMap(({ observed }) =>
    observed.flatMap((report) => (report.setId === setId ? (report.reason?.code ?? []) : [])),
  );
}

/** Something on the host deletes a container of the set soon after each of its starts. */
async function deleteRepeatedly(
  simulation: AgentSimulation,
  { setId }: DesiredSet,
  durationMs: number,
): Promise<void> {
  for (let passedMs = 0; passedMs < durationMs; passedMs += 500) {
    const [app] = simulation.observed(setId)?.containers ?? [];
    if (app?.state === "running") simulation.engine.removeExternally(app.dockerId);
    await simulation.pass(500);
  }
}

async function startSet(): Promise<{ simulation: AgentSimulation; set: DesiredSet }> {
  const simulation = new AgentSimulation(5);
  const set = simulation.want();
  simulation.start();
  await simulation.pass(30_000);
  simulation.changes.length = 0;
  return { simulation, set };
}

describe("a set whose containers do not last", () => {
  it("is prepared with an exponential backoff, and has a reason", async () => {
    const { simulation, set } = await startSet();
    await deleteRepeatedly(simulation, set, 10 * minuteMs);
    // Without a backoff, each minute has about sixty.
    expect(countPreparations(simulation)).toBeLessThan(25);
    const reasons = listReasons(simulation, set);
    expect(reasons).toContain("containers-unstable");
  });

  it("is prepared immediately after a few foreign deletions, and after a stable time", async () => {
    const { simulation, set } = await startSet();
    for (let i = 0; i < 5; i++) {
      await deleteRepeatedly(simulation, set, 1_500);
      await simulation.pass(2 * minuteMs);
    }
    expect(simulation.differences()).toEqual([]);
    expect(listReasons(simulation, set)).not.toContain("containers-unstable");
  });
});
