import { expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { defaultAgentLimits } from "./agent-limits.ts";
import { createWorkLimits } from "./work-limits.ts";

const never = new Promise<never>(() => undefined);

it("slow steps exceed the limit of steps at most twice, and one tenant has at most the half", async () => {
  const clock = new VirtualClock();
  const { steps } = createWorkLimits({ ...defaultAgentLimits, stepsMax: 4 }, clock);
  const begun: string[] = [];
  const begin = (tenant: string) => {
    void steps(tenant, () => {
      begun.push(tenant);
      return never;
    });
  };
  for (let step = 0; step < 100; step++) begin("noisy");
  await clock.pass(3_600_000);
  expect(begun).toHaveLength(4);
  for (let step = 0; step < 100; step++) begin(`tenant-${step % 10}`);
  await clock.pass(3_600_000);
  expect(begun).toHaveLength(8);
});
