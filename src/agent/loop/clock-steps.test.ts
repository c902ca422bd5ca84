import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AgentSimulation } from "../../../test/support/agent/agent-simulation.ts";
import type { DesiredSet } from "../../contracts/agent-protocol/desired-set.ts";

const minuteMs = 60_000;
/** Longer than the longest backoff and a full sync. */
const convergeMs = 240_000;

/** A set with a service, and with a job that runs once per start of the set. */
function wantWithJob(simulation: AgentSimulation): DesiredSet {
  const made = simulation.want({ names: ["job", "app"] });
  const template = structuredClone(made.template);
  for (const { name, options } of template.containers)
    if (name === "job") options.restart = { on: "never" };
  return simulation.change(made, { template });
}

function containersOf(simulation: AgentSimulation, { setId }: DesiredSet) {
  const seen = simulation.observed(setId);
  const find = (name: string) => seen?.containers.find((container) => container.name === name);
  return { infra: seen?.infra, app: find("app"), job: find("job") };
}

/** Starts the set and ends its job. */
async function runJob(simulation: AgentSimulation): Promise<DesiredSet> {
  const set = wantWithJob(simulation);
  simulation.start();
  await simulation.pass(30_000);
  simulation.engine.exit(containersOf(simulation, set).job?.dockerId ?? "", 0);
  await simulation.pass(30_000);
  expect(containersOf(simulation, set)).toMatchObject({
    app: { state: "running" },
    job: { state: "exited", exitCode: 0 },
  });
  return set;
}

const disturbances = {
  nothing: () => undefined,
  crashApp: (s: AgentSimulation, set: DesiredSet) =>
    s.engine.exit(containersOf(s, set).app?.dockerId ?? ""),
  restartAgent: async (s: AgentSimulation) => {
    await s.stop();
    s.start();
  },
  /** The last call of the killed agent and the first ones of the next agent may overlap. */
  killAgent: (s: AgentSimulation) => {
    s.kill();
    s.start();
  },
};

const events = fc.array(
  fc.record({
    stepMinutes: fc.integer({ min: -30, max: 30 }),
    disturbance: fc.constantFrom(...Object.keys(disturbances)) as fc.Arbitrary<
      keyof typeof disturbances
    >,
    passMs: fc.integer({ min: 0, max: 90_000 }),
  }),
  { minLength: 1, maxLength: 6 },
);

/** In these two, the job ends between the starts of a killed agent and of the next one. */
const overlaps: [
  number,
  { stepMinutes: number; disturbance: keyof typeof disturbances; passMs: number }[],
][] = [
  [
    0,
    [
      { stepMinutes: 0, disturbance: "restartAgent", passMs: 300 },
      { stepMinutes: 0, disturbance: "restartAgent", passMs: 480 },
      { stepMinutes: 0, disturbance: "killAgent", passMs: 25_601 },
      { stepMinutes: 0, disturbance: "nothing", passMs: 4_184 },
      { stepMinutes: 0, disturbance: "nothing", passMs: 0 },
    ],
  ],
  [
    -372_682_487,
    [
      { stepMinutes: 0, disturbance: "killAgent", passMs: 72_737 },
      { stepMinutes: 0, disturbance: "nothing", passMs: 11_814 },
      { stepMinutes: 0, disturbance: "nothing", passMs: 0 },
    ],
  ],
];

describe("steps of the wall clock", () => {
  it("replace no container and repeat no job, in either direction and at any moment", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), events, async (seed, chosen) => {
        const simulation = new AgentSimulation(seed);
        const set = await runJob(simulation);
        const before = containersOf(simulation, set);
        for (const { stepMinutes, disturbance, passMs } of chosen) {
          simulation.clock.stepWall(stepMinutes * minuteMs);
          await disturbances[disturbance](simulation, set);
          await simulation.pass(passMs);
        }
        await simulation.pass(convergeMs);
        const after = containersOf(simulation, set);
        expect(after.app).toMatchObject({ dockerId: before.app?.dockerId, state: "running" });
        expect(after.job).toEqual(before.job);
        expect(simulation.violations).toEqual([]);
      }),
      { numRuns: 25 },
    );
  }, 60_000);

  it("repeat no job while the set starts and the agent is killed", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), events, async (seed, chosen) => {
        const simulation = new AgentSimulation(seed);
        simulation.writeMsMax = 2_000;
        const set = wantWithJob(simulation);
        simulation.start();
        for (const { stepMinutes, disturbance, passMs } of chosen) {
          await simulation.pass(passMs / 60);
          simulation.clock.stepWall(stepMinutes * minuteMs);
          const { job } = containersOf(simulation, set);
          if (passMs % 2 === 0) simulation.engine.exit(job?.dockerId ?? "", 0);
          await disturbances[disturbance](simulation, set);
        }
        await simulation.pass(convergeMs);
        const { infra, job } = containersOf(simulation, set);
        expect(simulation.engine.countStarts(infra?.dockerId ?? "")).toBe(1);
        expect(simulation.engine.countStarts(job?.dockerId ?? "")).toBe(1);
      }),
      { numRuns: 300, examples: overlaps },
    );
  }, 120_000);

  it("restart the containers, and replace none, when infra crashes", async () => {
    for (const stepMinutes of [-10, 0, 10]) {
      const simulation = new AgentSimulation(1);
      const set = await runJob(simulation);
      const before = containersOf(simulation, set);
      simulation.clock.stepWall(stepMinutes * minuteMs);
      simulation.engine.exit(before.infra?.dockerId ?? "");
      await simulation.pass(convergeMs);
      const after = containersOf(simulation, set);
      expect(simulation.changes.filter((change) => change.startsWith("prepare"))).toHaveLength(2);
      expect(after.app).toMatchObject({ dockerId: before.app?.dockerId, state: "running" });
      expect(after.app?.startedAt).not.toBe(before.app?.startedAt);
      // Each start of a set runs its jobs.
      expect(after.job).toMatchObject({ dockerId: before.job?.dockerId, state: "running" });
    }
  });

  it("delay no restart of a container", async () => {
    const simulation = new AgentSimulation(1);
    const set = await runJob(simulation);
    simulation.engine.exit(containersOf(simulation, set).app?.dockerId ?? "");
    simulation.clock.stepWall(-10 * minuteMs);
    await simulation.pass(5_000);
    expect(containersOf(simulation, set).app?.state).toBe("running");
  });
});
