import { systemClock } from "../../src/host-adapters/machine/system-clock.ts";
import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { createLinuxMachine } from "../../src/host-adapters/machine/linux-machine.ts";
import { createAgent } from "../../src/agent/loop/agent.ts";
import type { ControlPlane } from "../../src/agent/ports/control-plane.ts";
import type { AgentState } from "../../src/agent/ports/state-store.ts";
import type { DesiredSet } from "../../src/contracts/agent-protocol/desired-set.ts";
import type { ObservedSet } from "../../src/contracts/agent-protocol/observed-set.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import {
  startTimeShiftingDocker,
  type TimeShiftingDocker,
} from "../support/docker/time-shifting-docker.ts";
import { waitUntil } from "../support/wait-until.ts";

const tenMinutesMs = 600_000;
/** In this time a loop that replaces containers makes several rounds. */
const calmMs = 6_000;
const docker = new Docker();
let shifting: TimeShiftingDocker;
let hostId: string;
let set: DesiredSet;
let observed: ObservedSet | undefined;
/** The codes of all reported reasons. */
let codes: string[];
let saved: AgentState | undefined;
let agent: { stop(): Promise<void> };

beforeEach(async () => {
  shifting = await startTimeShiftingDocker();
  hostId = newId("host");
  saved = undefined;
  codes = [];
  const made = localSet({
    names: ["job", "app"],
    template: { sysctls: { "net.core.somaxconn": "777" } },
  });
  const [job] = made.template.containers;
  if (job) {
    job.options.command = ["true"];
    job.options.restart = { on: "never" };
  }
  set = { ...made, desired: "running" };
  agent = startAgent();
  await waitUntilReady();
});
afterEach(async () => {
  await agent.stop();
  await removeHost(docker, hostId);
  await shifting.close();
});

function startAgent(): { stop(): Promise<void> } {
  observed = undefined;
  const api: ControlPlane = {
    async sync(body, signal) {
      observed = body.observed.at(-1) ?? observed;
      codes.push(...body.observed.flatMap(({ reason }) => reason?.code ?? []));
      if (body.waitMs > 0) await delay(body.waitMs, undefined, { signal });
      return {
        hostGeneration: set.generation,
        full: body.full,
        sets: body.full ? [set] : [],
        streams: [],
        purgeVolumes: [],
        reportAgain: [],
        leaseSeconds: 45,
        serverTime: new Date().toISOString(),
      };
    },
    uploadStream: async () => undefined,
  };
  const reservePercent = { cpu: 5, memory: 5, rootfs: 5 };
  const stopping = new AbortController();
  const ran = createAgent({
    hostId,
    agentVersion: "test",
    random: Math.random,
    clock: systemClock,
    port: composeSetEngine({ docker: shifting.docker, hostId, log: silentLog }),
    api,
    state: {
      load: async () => saved,
      save: async (next) => {
        saved = structuredClone(next);
      },
    },
    machine: createLinuxMachine({ dockerRoot: () => "/", reservePercent }),
    log: silentLog,
    limits: { resyncIntervalMs: 500 },
  }).run(stopping.signal);
  return {
    async stop() {
      stopping.abort();
      await ran;
    },
  };
}

const nameOf = (container: string) => `berth-${set.setId}-${container}`;

async function waitUntilReady(): Promise<void> {
  await waitUntil(
    "the set runs",
    async () => {
      expect(observed).toMatchObject({ state: "running", ready: true, reason: null });
      const { State: state } = await docker.getContainer(nameOf("app")).inspect();
      expect(state.Running).toBe(true);
      return true;
    },
    { deadlineMs: 60_000 },
  );
}

/** The identity and the last start of a container, by Docker's real times. */
async function readRun(container: string): Promise<{ id: string; startedAt: string }> {
  const { Id: id, State: state } = await docker.getContainer(nameOf(container)).inspect();
  return { id, startedAt: state.StartedAt };
}

describe.each([
  ["back", tenMinutesMs],
  ["forward", -tenMinutesMs],
])("a wall clock that is stepped %s by ten minutes", (_direction, shiftMs) => {
  it("replaces no container and repeats no job", async () => {
    const [infra, job, app] = await Promise.all([readRun("infra"), readRun("job"), readRun("app")]);
    shifting.shiftPast(shiftMs);
    await docker.getContainer(nameOf("app")).kill();
    await waitUntil("the crash is reported", () => observed?.ready === false);
    await waitUntilReady();
    const restarted = await readRun("app");
    expect(restarted.id).toBe(app.id);
    await agent.stop();
    agent = startAgent();
    await waitUntilReady();
    await delay(calmMs);
    await waitUntilReady();
    expect(await readRun("infra")).toEqual(infra);
    expect(await readRun("job")).toEqual(job);
    expect(await readRun("app")).toEqual(restarted);
  });

  it("lets infra apply sysctls at its next start", async () => {
    const [infra, app] = await Promise.all([readRun("infra"), readRun("app")]);
    await docker.getContainer(nameOf("app")).restart({ t: 0 });
    await waitUntilReady();
    await docker.getContainer(nameOf("infra")).kill();
    // The exit of the previous run counts as earlier than the step.
    shifting.shiftPast(shiftMs);
    await waitUntil(
      "infra runs again",
      async () => {
        expect((await readRun("infra")).startedAt).not.toBe(infra.startedAt);
        expect((await readRun("app")).startedAt).not.toBe(app.startedAt);
        expect(observed).toMatchObject({ ready: true, reason: null });
        return true;
      },
      { deadlineMs: 60_000 },
    );
    expect(codes).not.toContain("docker-unavailable");
    expect((await readRun("infra")).id).toBe(infra.id);
    expect((await readRun("app")).id).toBe(app.id);
  });
});

it("a completed job whose container is pruned does not run again", async () => {
  const filters = JSON.stringify({ label: [`berth.host=${hostId}`] });
  const { ContainersDeleted: deleted } = await docker.pruneContainers({ filters });
  expect(deleted).toHaveLength(1);
  const listNames = async () =>
    (await docker.listContainers({ all: true, filters })).flatMap(({ Names }) => Names).sort();
  const left = [`/${nameOf("app")}`, `/${nameOf("infra")}`];
  await delay(calmMs);
  expect(await listNames()).toEqual(left);
  await agent.stop();
  agent = startAgent();
  await waitUntilReady();
  await delay(calmMs);
  expect(await listNames()).toEqual(left);
  expect(observed?.containers.find(({ name }) => name === "job")).toMatchObject({
    state: "exited",
    ready: true,
    exitCode: 0,
  });
});
