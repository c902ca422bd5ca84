import { describe, expect, it } from "vitest";
import { AgentSimulation, ownHost } from "../../../test/support/agent/agent-simulation.ts";
import { containerOf, lastReport, runningHost } from "../../../test/support/fleet/running-host.ts";

const hourMs = 3_600_000;

describe("an agent whose control plane fails over to another database server", () => {
  it("repeats all reports, because the new server may lack some", async () => {
    const { simulation, sets } = await runningHost(3);
    await simulation.pass(120_000);
    simulation.plane.failOver("2");
    simulation.plane.received.length = 0;
    await simulation.pass(95_000);
    for (const set of sets) expect(lastReport(simulation, set)?.state).toBe("running");
    const images = simulation.plane.received.flatMap((report) => report.images ?? []);
    expect(images).not.toEqual([]);
    simulation.plane.received.length = 0;
    await simulation.pass(95_000);
    expect(simulation.plane.received.flatMap(({ observed }) => observed)).toEqual([]);
  });

  it("repeats them at most once a minute while two servers answer in turn", async () => {
    const { simulation } = await runningHost(1);
    await simulation.pass(120_000);
    simulation.plane.received.length = 0;
    for (let second = 0; second < 600; second++) {
      simulation.plane.databaseEpoch = String(second % 2);
      await simulation.pass(1_000);
    }
    const reports = simulation.plane.received.flatMap(({ observed }) => observed);
    expect(reports.length).toBeGreaterThan(0);
    expect(reports.length).toBeLessThanOrEqual(11);
  });

  it("repeats nothing for an older API, which names no server", async () => {
    const { simulation } = await runningHost(1);
    await simulation.pass(120_000);
    simulation.plane.received.length = 0;
    simulation.plane.databaseEpoch = undefined;
    await simulation.pass(60_000);
    simulation.plane.databaseEpoch = "1";
    await simulation.pass(60_000);
    expect(simulation.plane.received.flatMap(({ observed }) => observed)).toEqual([]);
  });
});

describe("an agent that starts", () => {
  it("adopts running sets and changes nothing", async () => {
    const { simulation, sets } = await runningHost(3);
    const before = sets.map(({ setId }) => simulation.observed(setId));
    simulation.kill();
    simulation.start();
    await simulation.pass(60_000);
    expect(simulation.changes).toEqual([]);
    expect(sets.map(({ setId }) => simulation.observed(setId))).toEqual(before);
    expect(simulation.differences()).toEqual([]);
  });

  it("continues the restart counts of the previous agent", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
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

  it("removes no set while the control plane is silent, for hours", async () => {
    const { simulation } = await runningHost(3);
    simulation.kill();
    simulation.loseDisk();
    simulation.plane.faults = { ...simulation.plane.faults, down: 1 };
    simulation.start();
    await simulation.pass(3 * hourMs);
    expect(simulation.changes).toEqual([]);
  });

  it("removes no set that a complete answer names, however slow the disk is", async () => {
    const { simulation } = await runningHost(3);
    simulation.kill();
    simulation.loseDisk();
    simulation.writeMsMax = 10_000;
    simulation.start();
    await simulation.pass(60_000);
    expect(simulation.changes).toEqual([]);
    expect(simulation.differences()).toEqual([]);
  });

  it.each([
    { api: "an API", isOlder: false, losesDisk: false },
    { api: "an API", isOlder: false, losesDisk: true },
    { api: "an older API", isOlder: true, losesDisk: false },
  ])("removes a set that $api has deleted (state file lost: $losesDisk)", async (given) => {
    const { simulation, sets } = await runningHost(3);
    simulation.kill();
    if (given.losesDisk) simulation.loseDisk();
    simulation.plane.isOlder = given.isOlder;
    simulation.plane.drop(sets[0]?.setId ?? "");
    simulation.start();
    await simulation.pass(40_000);
    const setId = sets[0]?.setId;
    expect(simulation.changes).toEqual([`stopAll ${setId}`, `remove ${setId}`]);
  });

  it.each([false, true])(
    "removes a deleted set that is down, and polls on (older API: %s)",
    async (isOlder) => {
      const { simulation, sets } = await runningHost(2);
      const [set] = sets;
      if (!set) throw new Error("a set is created");
      simulation.kill();
      simulation.loseDisk();
      simulation.plane.isOlder = isOlder;
      for (const name of ["infra", "app", "log"])
        simulation.engine.exit(containerOf(simulation, set, name).dockerId);
      simulation.plane.drop(set.setId);
      simulation.start();
      await simulation.pass(40_000);
      expect(simulation.observed(set.setId)).toBeUndefined();
      simulation.plane.received.length = 0;
      await simulation.pass(120_000);
      expect(simulation.plane.received.filter(({ full }) => full).length).toBeLessThanOrEqual(2);
      const reported = simulation.plane.received.flatMap((sync) => sync.unlistedSets ?? []);
      expect(reported).toEqual([]);
    },
  );

  it("polls on when the API is rolled back to a release that reads no unlisted sets", async () => {
    const { simulation } = await runningHost(1);
    await simulation.pass(150_000);
    simulation.plane.isOlder = true;
    simulation.plane.received.length = 0;
    await simulation.pass(300_000);
    expect(simulation.plane.received.filter(({ full }) => full).length).toBeGreaterThan(2);
    expect(simulation.differences()).toEqual([]);
  });

  it("forgets a set that it found without an order once its containers are deleted", async () => {
    const { simulation, sets } = await runningHost(2);
    const setId = sets[0]?.setId ?? "";
    simulation.kill();
    simulation.loseDisk();
    simulation.plane.lose(setId);
    simulation.start();
    await simulation.pass(90_000);
    const listUnlisted = () => {
      const fulls = simulation.plane.received.filter(({ full }) => full);
      return fulls.at(-1)?.unlistedSets;
    };
    expect(listUnlisted()).toEqual([setId]);
    simulation.engine.removeBusiness(ownHost, setId);
    simulation.engine.removeInfra(ownHost, setId);
    await simulation.pass(180_000);
    expect(listUnlisted()).toEqual([]);
  });

  it("I17: manages a set that a restored database lacks, and reports it", async () => {
    const { simulation, sets } = await runningHost(3);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.plane.lose(set.setId);
    await simulation.pass(90_000);
    expect(simulation.changes).toEqual([]);
    const reported = simulation.plane.received.flatMap(({ unlistedSets = [] }) => unlistedSets);
    expect(new Set(reported)).toEqual(new Set([set.setId]));
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(10_000);
    expect(containerOf(simulation, set, "app").state).toBe("running");
    simulation.kill();
    simulation.loseDisk();
    simulation.start();
    await simulation.pass(90_000);
    expect(containerOf(simulation, set, "app").state).toBe("running");

    simulation.plane.drop(set.setId);
    await simulation.pass(90_000);
    expect(simulation.observed(set.setId)).toBeUndefined();
    simulation.plane.received.length = 0;
    await simulation.pass(90_000);
    expect(simulation.plane.received.flatMap((sync) => sync.unlistedSets ?? [])).toEqual([]);
  });

  it("restarts crashed containers by the persisted state while the control plane is unreachable", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
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

describe("an answer of the control plane", () => {
  it("is refused if it is older than the accepted one, and removes nothing", async () => {
    const { simulation } = await runningHost(3);
    simulation.plane.goBackTo(1);
    await simulation.pass(10 * 60_000);
    expect(simulation.changes).toEqual([]);
    expect(simulation.agent.status().acceptedGeneration).toBe(3);
  });

  it("is applied only after it is persisted", async () => {
    const { simulation } = await runningHost(0);
    simulation.writeMsMax = 10_000;
    for (let i = 0; i < 4; i++) {
      const { setId } = simulation.want();
      const { hostGeneration } = simulation.plane;
      const hasStarted = () => simulation.changes.includes(`prepare ${setId}`);
      while (!hasStarted() && simulation.writtenGeneration < hostGeneration)
        await simulation.pass(1);
      expect(simulation.writtenGeneration).toBe(hostGeneration);
      await simulation.pass(20_000);
      expect(hasStarted()).toBe(true);
    }
  });

  it("aborts a start that is no longer desired", async () => {
    const { simulation } = await runningHost(0);
    simulation.isEngineHung = true;
    const set = simulation.want();
    await simulation.pass(1_000);
    simulation.isEngineHung = false;
    simulation.change(set, { desired: "deleted" });
    await simulation.pass(5_000);
    // The agent aborted the step before it created anything, so nothing needs removal.
    expect(simulation.changes).toEqual([`prepare ${set.setId}`]);
    expect(simulation.plane.desiredOf(set.setId)).toBeUndefined();
  });
});

describe("an agent that the control plane refuses", () => {
  const minuteMs = 60_000;

  it("manages its sets for a day behind a proxy that answers 401, and is never rejected", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.plane.refusal = { status: 401, provenCode: undefined };
    await simulation.pass(24 * hourMs);
    expect(simulation.agent.status().controlPlane).toBe("refused");
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(10_000);
    expect(containerOf(simulation, set, "app").state).toBe("running");
    simulation.plane.refusal = undefined;
    await simulation.pass(40_000);
    expect(simulation.agent.status().controlPlane).toBe("accepted");
    expect(simulation.differences()).toEqual([]);
  });

  it("is rejected only after ten minutes of signed refusals without an accepted sync", async () => {
    const { simulation } = await runningHost(1);
    const status = () => simulation.agent.status().controlPlane;
    const refusal = { status: 401, provenCode: "unauthenticated" };
    simulation.plane.refusal = refusal;
    await simulation.pass(9 * minuteMs);
    expect(status()).toBe("refused");
    simulation.plane.refusal = undefined;
    await simulation.pass(minuteMs);
    expect(status()).toBe("accepted");
    simulation.plane.refusal = refusal;
    await simulation.pass(9 * minuteMs);
    expect(status()).toBe("refused");
    await simulation.pass(2 * minuteMs);
    expect(status()).toBe("rejected");
    expect(simulation.changes).toEqual([]);
  });

  it("asks every two minutes at most while it is rejected, and continues when it is accepted", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.plane.refusal = { status: 403, provenCode: "forbidden" };
    await simulation.pass(20 * minuteMs);
    simulation.plane.refused = 0;
    await simulation.pass(60 * minuteMs);
    // Two loops ask independently.
    expect(simulation.plane.refused).toBeGreaterThanOrEqual(50);
    expect(simulation.plane.refused).toBeLessThanOrEqual(125);
    simulation.plane.refusal = undefined;
    simulation.change(set, { desired: "stopped" });
    await simulation.pass(3 * minuteMs);
    expect(simulation.differences()).toEqual([]);
  });

  it("stops its sets after a minute of signed statements that the host is deleted", async () => {
    const { simulation, sets } = await runningHost(2);
    const statesOf = () =>
      sets.flatMap((set) =>
        ["infra", "app", "log"].map((name) => containerOf(simulation, set, name).state),
      );
    simulation.plane.refusal = { status: 410, provenCode: "host-deleted" };
    await simulation.pass(50_000);
    expect(simulation.changes).toEqual([]);
    await simulation.pass(2 * minuteMs);
    expect(simulation.agent.status().controlPlane).toBe("deleted");
    expect(simulation.changes).toEqual(sets.map(({ setId }) => `stopAll ${setId}`));
    expect(new Set(statesOf())).toEqual(new Set(["exited"]));
    simulation.kill();
    simulation.start();
    await simulation.pass(hourMs);
    expect(new Set(statesOf())).toEqual(new Set(["exited"]));
    expect(simulation.changes).toHaveLength(2);
  });

  it("runs the sets of a deleted host again only as a complete answer desires", async () => {
    const { simulation, sets } = await runningHost(2);
    const [first, second] = sets;
    if (!first || !second) throw new Error("two sets are created");
    simulation.plane.refusal = { status: 410, provenCode: "host-deleted" };
    await simulation.pass(3 * minuteMs);
    simulation.kill();
    simulation.plane.refusal = undefined;
    simulation.plane.drop(first.setId); // another host runs it
    simulation.changes.length = 0;
    simulation.start();
    await simulation.pass(5 * minuteMs);
    expect(simulation.differences()).toEqual([]);
    expect(simulation.observed(first.setId)).toBeUndefined();
    expect(simulation.changes.filter((change) => change.endsWith(first.setId))).toEqual([
      `remove ${first.setId}`,
    ]);
    expect(containerOf(simulation, second, "app").state).toBe("running");
  });
});

describe("a set that has run", () => {
  it("is restarted while a probe hangs", async () => {
    const check = { tcp: { port: 80 }, timeoutSeconds: 60 };
    const { simulation, sets } = await runningHost(1, { health: check });
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.hanging.add("probe");
    await simulation.pass(5_000);
    simulation.engine.exit(containerOf(simulation, set, "log").dockerId);
    await simulation.pass(2_000);
    expect(containerOf(simulation, set, "log").state).toBe("running");
  });

  it("is restarted indefinitely with backoff", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
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

  it("is started as a whole and in order after its infra container exits", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.engine.exit(containerOf(simulation, set, "infra").dockerId);
    await simulation.pass(100);
    expect(lastReport(simulation, set)).toMatchObject({ state: "running", ready: false });
    await simulation.pass(5_000);
    const verbs = simulation.changes.map((change) => change.split(" ")[0]);
    expect(verbs).toEqual(["prepare", "start", "start"]);
    expect(simulation.differences()).toEqual([]);
  });

  it("reports readiness by its health checks at their interval", async () => {
    const check = { tcp: { port: 80 }, intervalSeconds: 2, failureThreshold: 3 };
    const { simulation, sets } = await runningHost(1, { health: check });
    const [set] = sets;
    if (!set) throw new Error("a set is created");
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
  it("reports a hung daemon within 6 s, and keeps reporting", async () => {
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
    // Long polls include usage reports.
    expect(received.length - before).toBeLessThanOrEqual(usages.length + 2);
    simulation.isEngineHung = false;
    await simulation.pass(10_000);
    expect(received.findLast(({ docker }) => docker !== null)?.docker?.state).toBe("ok");
  });

  it("takes at most the allowed number of concurrent steps", async () => {
    const simulation = new AgentSimulation(1);
    simulation.limits = { stepsMax: 3 };
    for (let i = 0; i < 10; i++) simulation.want();
    simulation.start();
    await simulation.pass(200);
    expect(simulation.changes).toHaveLength(3);
    await simulation.pass(10_000);
    expect(simulation.differences()).toEqual([]);
  });

  it("reports simultaneous changes together", async () => {
    const { simulation } = await runningHost(0);
    const before = simulation.plane.syncs;
    for (let i = 0; i < 50; i++) simulation.want();
    await simulation.pass(2_000);
    expect(simulation.differences()).toEqual([]);
    expect(simulation.plane.syncs - before).toBeLessThan(20);
  });

  it("makes few calls while nothing changes", async () => {
    const { simulation } = await runningHost(20);
    await simulation.pass(60_000);
    simulation.callCounts.clear();
    const before = simulation.plane.syncs;
    await simulation.pass(600_000);
    expect(Object.fromEntries(simulation.callCounts)).toEqual({ observe: 10, ping: 300 });
    // Usage every 15 s, a full sync every minute, and long polls of 25 s between.
    expect(simulation.plane.syncs - before).toBeLessThanOrEqual(40 + 10 + 24 + 10);
  });

  it("detects and counts changes without an event", async () => {
    const { simulation, sets } = await runningHost(1);
    const [set] = sets;
    if (!set) throw new Error("a set is created");
    simulation.losesEvents = true;
    simulation.engine.exit(containerOf(simulation, set, "app").dockerId);
    await simulation.pass(62_000);
    expect(simulation.agent.status().corrections).toBe(1);
    expect(containerOf(simulation, set, "app").state).toBe("running");
  });
});

describe("an agent that is stopped", () => {
  it("completes and reports the step in progress, and starts no other", async () => {
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

  it("waits for a hung daemon at most until its deadline", async () => {
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
