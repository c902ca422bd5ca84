import { describe, expect, it } from "vitest";
import { containerOf, runningHost } from "../../../test/support/fleet/running-host.ts";

const hostReasons = ({ plane }: Awaited<ReturnType<typeof runningHost>>["simulation"]) =>
  plane.received.flatMap(({ usage }) => (usage ? [usage.volumeReason?.code] : []));

describe("an agent whose disk is full", () => {
  it("applies deletes and stops, reports the disk, and applies other orders when it has space", async () => {
    const { simulation, sets } = await runningHost(3);
    const [first, second, third] = sets;
    if (!first || !second || !third) throw new Error("three sets are created");
    simulation.isDiskFull = true;
    simulation.change(first, { desired: "deleted" });
    simulation.change(second, { desired: "stopped" });
    const fourth = simulation.want();
    await simulation.pass(30_000);
    expect(simulation.observed(first.setId)).toBeUndefined();
    expect(containerOf(simulation, second, "app").state).toBe("exited");
    expect(containerOf(simulation, third, "app").state).toBe("running");
    expect(simulation.observed(fourth.setId)).toBeUndefined();
    expect(hostReasons(simulation).at(-1)).toBe("disk-full");
    simulation.isDiskFull = false;
    await simulation.pass(60_000);
    expect(simulation.differences()).toEqual([]);
    expect(simulation.observed(first.setId)).toBeUndefined();
    expect(simulation.changes.filter((change) => change === `prepare ${first.setId}`)).toEqual([]);
    expect(hostReasons(simulation).at(-1)).toBeUndefined();
  });

  it("removes no found set after a restart without its state, and adopts all when it has space", async () => {
    const { simulation } = await runningHost(3);
    simulation.kill();
    simulation.loseDisk();
    simulation.isDiskFull = true;
    simulation.start();
    await simulation.pass(5 * 60_000);
    expect(simulation.changes).toEqual([]);
    simulation.isDiskFull = false;
    await simulation.pass(60_000);
    expect(simulation.changes).toEqual([]);
    expect(simulation.differences()).toEqual([]);
  });

  it("never starts a set whose older order waited while a newer one deleted it", async () => {
    const { simulation } = await runningHost(1);
    simulation.isDiskFull = true;
    const set = simulation.want();
    await simulation.pass(2_000);
    simulation.change(set, { desired: "deleted" });
    await simulation.pass(40_000);
    simulation.isDiskFull = false;
    await simulation.pass(120_000);
    expect(simulation.changes).toEqual([]);
    expect(simulation.agent.status().sets).toBe(1);
  });
});
