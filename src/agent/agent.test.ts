import { describe, expect, it } from "vitest";
import { AgentSimulation } from "../../test/support/agent/agent-simulation.ts";
import { containerOf, lastReport, runningHost } from "../../test/support/fleet/running-host.ts";
import { CredentialRefusedError } from "./ports/control-plane.ts";

const hourMs = 3_600_000;

describe("an agent that starts", () => {
  it("adopts what runs and changes nothing", async () => {
    const { simulation, sets } = await runningHost(3);
    const before = sets.map(({ setId }) => simulation.observed(setId));
    simulation.kill();
    simulation.start();
    await simulation.pass(60_000);
    expect(simulation.changes).toEqual([]);
    expect(sets.map(({ setId }) => simulation.observed(setId))).toEqual(before);
    expect(simulation.differences()).toEqual([]);
  });

  it("goes on counting restarts where the agent before it left off", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("there is one");
    const restartsOf = () =>
      lastReport(simulation, set)?.containers.map(({ name, restarts }) => `${name} ${restarts}`);
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(5_000);
    expect(restartsOf()).toEqual(["app 1", "log 0"]);
    simulation.kill();
    simulation.start();
    await simulation.pass(5_000);
    expect(restartsOf()).toEqual(["app 1", "log 0"]);
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(5_000);
    expect(restartsOf()).toEqual(["app 2", "log 0"]);
  });

  it("removes nothing that it finds while the control plane is silent, for hours", async () => {
    const { simulation } = await runningHost(3);
    simulation.kill();
    simulation.loseDisk();
    simulation.plane.faults = { ...simulation.plane.faults, down: 1 };
    simulation.start();
    await simulation.pass(3 * hourMs);
    expect(simulation.changes).toEqual([]);
  });

  it("removes nothing that a complete answer names, however slow the disk is", async () => {
    const { simulation } = await runningHost(3);
    simulation.kill();
    simulation.loseDisk();
    simulation.writeMsMax = 10_000;
    simulation.start();
    await simulation.pass(60_000);
    expect(simulation.changes).toEqual([]);
    expect(simulation.differences()).toEqual([]);
  });

  it("removes what it finds and a complete answer does not name", async () => {
    const { simulation, sets } = await runningHost(3);
    simulation.kill();
    simulation.plane.drop(sets[0]?.setId ?? "");
    simulation.start();
    await simulation.pass(10_000);
    expect(simulation.changes).toEqual([`remove ${sets[0]?.setId}`]);
  });

  it("restarts what crashes from what it was told before, with the control plane away", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("there is one");
    simulation.plane.faults = { ...simulation.plane.faults, down: 1 };
    simulation.kill();
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    simulation.start();
    await simulation.pass(10_000);
    expect(containerOf(simulation, set, "app").state).toBe("running");
    await simulation.pass(2 * hourMs);
    simulation.engine.exit(containerOf(simulation, set, "infra").dockerId);
    await simulation.pass(10_000);
    const states = ["infra", "app", "log"].map((name) => containerOf(simulation, set, name).state);
    expect(states).toEqual(["running", "running", "running"]);
  });
});

describe("what the control plane says", () => {
  it("is refused when it is older than what was accepted, and nothing is removed", async () => {
    const { simulation } = await runningHost(3);
    simulation.plane.goBackTo(1);
    await simulation.pass(10 * 60_000);
    expect(simulation.changes).toEqual([]);
    expect(simulation.agent.status().acceptedGeneration).toBe(3);
  });

  it("is acted on only once it is written down", async () => {
    const { simulation } = await runningHost(0);
    simulation.writeMsMax = 10_000;
    for (let i = 0; i < 4; i++) {
      const { setId } = simulation.want();
      const { hostGeneration } = simulation.plane;
      const isBegun = () => simulation.changes.includes(`prepare ${setId}`);
      while (!isBegun() && simulation.writtenGeneration < hostGeneration) await simulation.pass(1);
      expect(simulation.writtenGeneration).toBe(hostGeneration);
      await simulation.pass(20_000);
      expect(isBegun()).toBe(true);
    }
  });

  it("breaks off a start that is not wanted any more", async () => {
    const { simulation } = await runningHost(0);
    simulation.isEngineHung = true;
    const set = simulation.want();
    await simulation.pass(1_000);
    simulation.isEngineHung = false;
    simulation.change(set, { desired: "deleted" });
    await simulation.pass(5_000);
    // It was broken off before anything was made, so there is nothing to remove either.
    expect(simulation.changes).toEqual([`prepare ${set.setId}`]);
    expect(simulation.plane.desiredOf(set.setId)).toBeUndefined();
  });

  it("ends the agent when it does not know the host any more, and every container runs on", async () => {
    const { simulation, sets } = await runningHost(2);
    const before = sets.map(({ setId }) => simulation.observed(setId));
    simulation.plane.refuses = true;
    await simulation.pass(60_000);
    expect(simulation.endedBy).toBeInstanceOf(CredentialRefusedError);
    expect(sets.map(({ setId }) => simulation.observed(setId))).toEqual(before);
  });
});

describe("a set that has run", () => {
  it("is restarted although a probe hangs", async () => {
    const check = { tcp: { port: 80 }, timeoutSeconds: 60 };
    const { simulation, sets } = await runningHost(1, { health: check });
    const [set] = sets;
    if (!set) throw new Error("there is one");
    simulation.hanging.add("probe");
    await simulation.pass(5_000);
    simulation.engine.exit(containerOf(simulation, set, "log").dockerId);
    await simulation.pass(2_000);
    expect(containerOf(simulation, set, "log").state).toBe("running");
  });

  it("is restarted for ever, each time later, and is never given up", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("there is one");
    const waits: number[] = [];
    for (let crash = 0; crash < 9; crash++) {
      simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
      const endedAtMs = simulation.clock.nowMs();
      while (containerOf(simulation, set, "app").state !== "running") await simulation.pass(100);
      waits.push(Math.floor((simulation.clock.nowMs() - endedAtMs) / 1_000));
    }
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    await simulation.pass(70_000);
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(2_000);
    const report = lastReport(simulation, set);
    expect(report).toMatchObject({ state: "running", ready: true, gaveUp: false });
    expect(report?.containers[0]).toMatchObject({ name: "app", restarts: 10 });
  });

  it("is started whole and in order when its infra container dies", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("there is one");
    simulation.engine.exit(containerOf(simulation, set, "infra").dockerId);
    await simulation.pass(100);
    expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: false });
    await simulation.pass(5_000);
    const verbs = simulation.changes.map((change) => change.split(" ")[0]);
    expect(verbs).toEqual(["prepare", "start", "start"]);
    expect(simulation.differences()).toEqual([]);
  });

  it("gives its health checks as ready, at the check's pace", async () => {
    const check = { tcp: { port: 80 }, intervalSeconds: 2, failureThreshold: 3 };
    const { simulation, sets } = await runningHost(1, { health: check });
    const [set] = sets;
    if (!set) throw new Error("there is one");
    simulation.engine.options.probe = () => ({ healthy: false, detail: "no" });
    await simulation.pass(3_000);
    expect(lastReport(simulation, set)?.ready).toBe(true);
    await simulation.pass(4_000);
    expect(lastReport(simulation, set)).toMatchObject({
      state: "running",
      ready: false,
      reason: { code: "not-healthy" },
    });
    simulation.engine.options.probe = () => ({ healthy: true });
    await simulation.pass(2_100);
    expect(lastReport(simulation, set)).toMatchObject({ ready: true, reason: null });
    expect(simulation.changes).toEqual([]);
  });
});

describe("an agent at work", () => {
  it("reports a daemon that hangs within 6 s, and goes on reporting", async () => {
    const { simulation } = await runningHost(2);
    simulation.isEngineHung = true;
    await simulation.pass(6_100);
    const { received } = simulation.plane;
    expect(received.findLast(({ docker }) => docker !== null)?.docker).toMatchObject({
      state: "unreachable",
      detail: expect.stringContaining("no answer since 2026-01-01T"),
    });
    const before = received.length;
    await simulation.pass(60_000);
    const usages = received.slice(before).filter(({ usage }) => usage !== null);
    expect(usages.length).toBeGreaterThanOrEqual(4);
    expect(received.length - before).toBeLessThanOrEqual(usages.length + 2); // those that wait take it along
    simulation.isEngineHung = false;
    await simulation.pass(10_000);
    expect(received.findLast(({ docker }) => docker !== null)?.docker?.state).toBe("ok");
  });

  it("takes as many steps at a time as it may, and no more", async () => {
    const simulation = new AgentSimulation(1);
    simulation.limits = { stepsMax: 3 };
    for (let i = 0; i < 10; i++) simulation.want();
    simulation.start();
    await simulation.pass(200);
    expect(simulation.changes).toHaveLength(3);
    await simulation.pass(10_000);
    expect(simulation.differences()).toEqual([]);
  });

  it("reports what changes at the same time together", async () => {
    const { simulation } = await runningHost(0);
    const before = simulation.plane.syncs;
    for (let i = 0; i < 50; i++) simulation.want();
    await simulation.pass(2_000);
    expect(simulation.differences()).toEqual([]);
    expect(simulation.plane.syncs - before).toBeLessThan(20);
  });

  it("costs little when nothing changes", async () => {
    const { simulation } = await runningHost(20);
    await simulation.pass(60_000);
    simulation.callCounts.clear();
    const before = simulation.plane.syncs;
    await simulation.pass(600_000);
    expect(Object.fromEntries(simulation.callCounts)).toEqual({ observe: 20, ping: 300 });
    // Usage every 15 s, everything every minute, and long polls of 25 s between.
    expect(simulation.plane.syncs - before).toBeLessThanOrEqual(40 + 10 + 24 + 10);
  });

  it("finds what no event has told, and counts it", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("there is one");
    simulation.losesEvents = true;
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(32_000);
    expect(simulation.agent.status().corrections).toBe(1);
    expect(containerOf(simulation, set, "app").state).toBe("running");
  });
});

describe("an agent that is stopped", () => {
  it("finishes the step under way, reports it, and begins no other", async () => {
    const { simulation } = await runningHost(0);
    const set = simulation.want();
    await simulation.pass(100);
    await simulation.stop();
    expect(simulation.changes).toEqual([`prepare ${set.setId}`]);
    expect(simulation.observed(set.setId)?.containers[0]?.state).toBe("created");
    await simulation.pass(60_000);
    expect(simulation.changes).toHaveLength(1);
    simulation.start();
    await simulation.pass(10_000);
    expect(simulation.differences()).toEqual([]);
  });

  it("does not wait for a daemon that hangs longer than its deadline", async () => {
    const { simulation } = await runningHost(1);
    simulation.isEngineHung = true;
    simulation.want();
    await simulation.pass(1_000);
    const atMs = simulation.clock.nowMs();
    await simulation.stop();
    expect(simulation.clock.nowMs() - atMs).toBeLessThan(11_000);
    expect(simulation.violations).toEqual([]);
  });
});
