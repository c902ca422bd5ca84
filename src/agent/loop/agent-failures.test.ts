import { describe, expect, it } from "vitest";
import { noFaults } from "../../../test/support/fakes/model-control-plane.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";
import { localSet } from "../../../test/support/agent/local-set.ts";
import { newId } from "../../lib/ids.ts";

describe("a set whose start fails", () => {
  it("is not retried after three attempts with backoff, and is removed only on request", async () => {
    const { simulation } = await runningHost(0);
    simulation.failing.add("start");
    const set = simulation.want();
    await simulation.pass(1_000);
    expect(lastReport(simulation, set)).toMatchObject({
      state: "starting",
      gaveUp: false,
      reason: { code: "docker-error" },
    });
    await simulation.pass(30_000);
    const { setId } = set;
    expect(simulation.changes).toEqual([
      `prepare ${setId}`,
      ...Array.from({ length: 3 }, () => `start ${setId}`),
      `stopAll ${setId}`,
      `remove ${setId}`,
    ]);
    const reports = simulation.plane.received.flatMap(({ observed }) => observed);
    const states = reports.filter((report) => report.setId === setId).map(({ state }) => state);
    expect(states.slice(-4)).toEqual(["starting", "failed", "stopping", "absent"]);
  });

  it("is retried indefinitely while it has a volume on this host or restores one", async () => {
    const { simulation } = await runningHost(0);
    const { template } = localSet({ template: { volume: { size: "32Mi", mountPath: "/data" } } });
    const fresh = simulation.want({ template });
    const restored = simulation.want({ template, restoreVolumeId: newId("vol") });
    const old = simulation.want({ template });
    const image = simulation.withMissingImage(fresh);
    simulation.change(fresh, { template: image });
    simulation.change(restored, { template: image });
    await simulation.pass(10_000);
    const oldAgain = simulation.change(old, { desired: "stopped" });
    await simulation.pass(10_000);
    simulation.kill();
    simulation.start();
    simulation.change(oldAgain, { desired: "running", template: image });
    await simulation.pass(200_000);
    expect(lastReport(simulation, restored)).toMatchObject({
      gaveUp: false,
      reason: { code: "image-not-found" },
    });
    expect(lastReport(simulation, old)).toMatchObject({ gaveUp: false });
    // The control plane placed it on another host.
    expect(simulation.plane.desiredOf(fresh.setId)).toBeUndefined();
    simulation.change(oldAgain, { desired: "running", template });
    await simulation.pass(10_000);
    expect(lastReport(simulation, old)).toMatchObject({ state: "running", ready: true });
  });

  it("is not retried after a permanent error, and has its reason", async () => {
    const { simulation } = await runningHost(0);
    const wanted = simulation.want();
    const set = simulation.change(wanted, { template: simulation.withMissingImage(wanted) });
    const reports = () =>
      simulation.plane.received.flatMap(({ observed }) =>
        observed.filter(({ state }) => state === "failed"),
      );
    await simulation.pass(3_000);
    expect(simulation.changes.filter((change) => change.startsWith("prepare"))).toHaveLength(1);
    expect(reports()[0]).toMatchObject({
      setId: set.setId,
      gaveUp: true,
      reason: { code: "image-not-found", phase: "image" },
    });
  });

  it("stops the pull of an image that its new template no longer names", async () => {
    const { simulation } = await runningHost(0);
    const wanted = simulation.want();
    const old = simulation.change(wanted, { template: simulation.withMissingImage(wanted) });
    simulation.hangs = ({ verb }) => verb === "pull";
    await simulation.pass(5_000);
    expect(simulation.callCounts.get("pull")).toBe(1);
    const template = structuredClone(old.template);
    for (const container of template.containers) container.image = "other";
    const set = simulation.change(old, { template });
    await simulation.pass(20_000);
    expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  });

  it("does not repeat the pull of an image that its new template names too", async () => {
    const { simulation } = await runningHost(0);
    const wanted = simulation.want();
    const old = simulation.change(wanted, { template: simulation.withMissingImage(wanted) });
    simulation.hangs = ({ verb }) => verb === "pull";
    await simulation.pass(5_000);
    const template = structuredClone(old.template);
    for (const container of template.containers) container.options.command = ["other"];
    simulation.change(old, { template });
    await simulation.pass(20_000);
    expect(simulation.callCounts.get("pull")).toBe(1);
  });

  it("waits up to a minute for an unreachable daemon", async () => {
    const { simulation } = await runningHost(0);
    simulation.isEngineHung = true;
    const set = simulation.want();
    await simulation.pass(30_000);
    simulation.isEngineHung = false;
    await simulation.pass(15_000);
    expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  });
});

describe("a daemon that answers again", () => {
  it("is observed immediately, because its absence caused no events", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.isEngineUnreachable = true;
    await simulation.pass(8_000);
    simulation.losesEvents = true;
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    simulation.isEngineUnreachable = false;
    await simulation.pass(4_000);
    expect(containerOf(simulation, set, "app").state).toBe("running");
  });

  it("ends the backoff of sets that only waited for it", async () => {
    const { simulation } = await runningHost(0);
    simulation.isEngineUnreachable = true;
    const set = simulation.want();
    await simulation.pass(50_000);
    expect(lastReport(simulation, set)).toMatchObject({
      state: "preparing",
      reason: { code: "docker-unavailable" },
    });
    simulation.isEngineUnreachable = false;
    await simulation.pass(7_000);
    expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: true });
  });
});

describe("a machine that was down", () => {
  /** The agent runs again and cannot reach the control plane. */
  async function rebooted() {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.kill();
    for (const name of ["infra", "app", "log"])
      simulation.engine.exit(containerOf(simulation, set, name).dockerId);
    simulation.plane.faults = { ...noFaults, down: 1 };
    simulation.start();
    return { simulation, set };
  }

  it("I3: starts no set that was replaced meanwhile", async () => {
    const { simulation, set } = await rebooted();
    await simulation.pass(8_000);
    simulation.change(set, { desired: "deleted" });
    simulation.plane.faults = noFaults;
    await simulation.pass(20_000);
    expect(simulation.changes).toEqual([`remove ${set.setId}`]);
  });

  it("starts its sets after the startup hold, even without the control plane", async () => {
    const { simulation, set } = await rebooted();
    await simulation.pass(29_000);
    expect(simulation.changes).toEqual([]);
    await simulation.pass(10_000);
    expect(containerOf(simulation, set, "app").state).toBe("running");
  });
});
