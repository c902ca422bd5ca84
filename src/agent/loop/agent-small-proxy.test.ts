import { describe, expect, it } from "vitest";
import { runningHost } from "../../../test/support/fleet/running-host.ts";

const SETS = 60;

describe("a proxy that refuses long bodies", () => {
  it("gets the reports in parts that it accepts, and each set is reported", async () => {
    const { simulation } = await runningHost(0);
    // One report of a set has some 700 characters.
    simulation.plane.bodyCharsMax = 20_000;
    const sets = Array.from({ length: SETS }, () => simulation.want());
    await simulation.pass(60_000);
    const ready = sets.filter(({ setId }) => simulation.plane.reportOf(setId)?.ready === true);
    expect(ready).toHaveLength(SETS);
    expect(simulation.plane.tooLong).toBeGreaterThan(0);
    // The bound remains, so the proxy refuses nothing any longer.
    simulation.plane.tooLong = 0;
    simulation.plane.failOver("3");
    await simulation.pass(180_000);
    expect(sets.filter(({ setId }) => simulation.plane.reportOf(setId)?.ready)).toHaveLength(SETS);
    expect(simulation.plane.tooLong).toBe(0);
  });
});
