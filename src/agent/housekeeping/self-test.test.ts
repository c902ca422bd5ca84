import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { silentLog } from "../../lib/log.ts";
import { createSimulatedSetPort } from "../../host-adapters/simulated/set-port.ts";
import { SimulatedEngine } from "../../host-adapters/simulated/simulated-engine.ts";
import { newId } from "../../lib/ids.ts";
import { AgentError } from "../base/agent-error.ts";
import { defaultAgentLimits } from "../base/agent-limits.ts";
import type { DockerCapabilities } from "../ports/self-test-port.ts";
import { Housekeeping } from "./housekeeping.ts";
import { type SelfTestMode, SelfTestMonitor } from "./self-test.ts";

const docker: DockerCapabilities = {
  version: "28.0.1",
  imageStore: "overlay2",
  cgroupDriver: "systemd",
  cgroupVersion: 2,
};
const limits = {
  selfTestDelayMs: 5_000,
  selfTestIntervalMs: 600_000,
  selfTestRetryMs: 20_000,
  selfTestTimeoutMs: 120_000,
};
const passed = { state: "passed", reason: null };

let clock: VirtualClock;
let stopping: AbortController;
let machine: {
  runs: number;
  fault: string | undefined;
  hangs: boolean;
  isDockerReachable: boolean;
};
let changes: number;
let monitor: SelfTestMonitor;
let running: Promise<void>;

/** Starts the monitor of an agent with this setting. */
function startMonitor(mode: SelfTestMode): void {
  clock = new VirtualClock();
  stopping = new AbortController();
  machine = { runs: 0, fault: undefined, hangs: false, isDockerReachable: true };
  changes = 0;
  monitor = new SelfTestMonitor({
    port: {
      describeDocker: async () => docker,
      async run() {
        machine.runs++;
        if (machine.hangs) await new Promise(() => undefined);
        if (machine.fault === undefined) return;
        const options = { phase: "observe" as const, temporary: true };
        throw new AgentError("bridge-missing", machine.fault, options);
      },
    },
    mode,
    clock,
    log: silentLog,
    limits,
    isDockerReachable: () => machine.isDockerReachable,
    onChange: () => changes++,
  });
  running = monitor.run(stopping.signal);
}

beforeEach(() => startMonitor("enforce"));
afterEach(async () => {
  stopping.abort(new Error("the test ends"));
  await running;
});

describe("a self test", () => {
  it("runs after a delay, and then at the interval", async () => {
    await clock.pass(4_999);
    expect(machine.runs).toBe(0);
    await clock.pass(1);
    expect(monitor.tested).toEqual({ docker, selfTest: passed });
    const afterFirst = changes;
    await clock.pass(600_000);
    expect(machine.runs).toBe(2);
    expect(changes).toBe(afterFirst);
  });

  it("fails at the second failure in a row, with its reason, and then passes again", async () => {
    machine.fault = "Docker has no bridge.";
    await clock.pass(5_000);
    expect(monitor.tested.selfTest).toBeNull();
    await clock.pass(20_000);
    expect(monitor.tested.selfTest).toEqual({
      state: "failed",
      reason: { code: "bridge-missing", text: "Docker has no bridge." },
    });
    machine.fault = undefined;
    await clock.pass(20_000);
    expect(monitor.tested.selfTest).toEqual(passed);
  });

  it("fails at its deadline if it hangs", async () => {
    machine.hangs = true;
    await clock.pass(5_000 + 2 * 120_000 + 20_000);
    expect(monitor.tested.selfTest).toMatchObject({
      state: "failed",
      reason: { code: "self-test-slow" },
    });
  });

  it("has another result if it is only reported, and none if it is off", async () => {
    const restart = async (mode: SelfTestMode) => {
      stopping.abort(new Error("the agent restarts"));
      await running;
      startMonitor(mode);
      machine.fault = "Docker has no bridge.";
    };
    await restart("report");
    await clock.pass(25_000);
    expect(monitor.tested.selfTest).toMatchObject({
      state: "reported",
      reason: { code: "bridge-missing" },
    });
    await restart("off");
    const off = { state: "off", reason: null };
    expect(monitor.tested.selfTest).toEqual(off);
    await clock.pass(1_200_000);
    expect(machine.runs).toBe(0);
    expect(monitor.tested).toEqual({ docker, selfTest: off });
  });

  it("does not run while Docker is unreachable, and runs when it is back", async () => {
    await clock.pass(5_000);
    machine.isDockerReachable = false;
    machine.fault = "Docker has no bridge.";
    await clock.pass(1_200_000);
    expect(machine.runs).toBe(1);
    expect(monitor.tested.selfTest).toEqual(passed);
    machine.isDockerReachable = true;
    monitor.checkSoon();
    await clock.pass(20_000);
    expect(machine.runs).toBe(2);
  });
});

it("a self test follows a ping of Docker that failed, because Docker may have restarted", async () => {
  let isDown = false;
  let runs = 0;
  const virtual = new VirtualClock();
  const port = createSimulatedSetPort(new SimulatedEngine({ clock: virtual }), newId("host"));
  const housekeeping = new Housekeeping({
    port: {
      ...port,
      ping: async () => {
        if (isDown) throw new Error("connection refused");
      },
    },
    selfTest: {
      mode: "enforce",
      port: {
        describeDocker: async () => docker,
        run: async () => {
          runs++;
        },
      },
    },
    clock: virtual,
    log: silentLog,
    limits: defaultAgentLimits,
    onChange: () => undefined,
    onAvailable: () => undefined,
    onRootfsMeasured: () => undefined,
    neededImages: () => new Set(),
  });
  const ending = new AbortController();
  const loop = housekeeping.run(ending.signal);
  await virtual.pass(60_000);
  expect(runs).toBe(1);
  isDown = true;
  await virtual.pass(2_000);
  isDown = false;
  await virtual.pass(2_000);
  expect(runs).toBe(2);
  ending.abort(new Error("the test ends"));
  await loop;
});
