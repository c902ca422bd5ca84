import Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createAgent } from "../../src/agent/loop/agent.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { AgentState } from "../../src/agent/ports/state-store.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { systemClock } from "../../src/host-adapters/machine/system-clock.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { localSet, type LocalSetChanges } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { ModelControlPlane } from "../support/fakes/model-control-plane.ts";
import { waitUntil } from "../support/wait-until.ts";

const docker = new Docker();
const { signal } = new AbortController();
let hostId: string;
let port: SetPort;

beforeEach(() => {
  hostId = newId("host");
  port = composeSetEngine({ docker, hostId, log: silentLog });
});
afterEach(() => removeHost(docker, hostId));

function inspect({ setId }: LocalSetSpec, name: string): Promise<Docker.ContainerInspectInfo> {
  return docker.getContainer(`berth-${setId}-${name}`).inspect();
}

async function run(changes: LocalSetChanges): Promise<LocalSetSpec> {
  const set = localSet(changes);
  await port.prepare(set, signal);
  const names = set.template.containers.map(({ name }) => name);
  await port.start(set, names, signal);
  return set;
}

/** The set with changed options of its containers. */
function withOptions<Spec extends LocalSetSpec>(
  set: Spec,
  options: object,
  name?: string,
): Spec & { template: Spec["template"] } {
  const changed = structuredClone(set);
  for (const container of changed.template.containers)
    if (name === undefined || container.name === name) Object.assign(container.options, options);
  return changed;
}

describe("an agent that updates one of two containers", () => {
  let saved: AgentState | undefined;
  let plane: ModelControlPlane;

  beforeEach(() => {
    saved = undefined;
    plane = new ModelControlPlane(systemClock, Math.random);
  });

  function startAgent() {
    const stopping = new AbortController();
    const none = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
    const ran = createAgent({
      hostId,
      agentVersion: "test",
      random: Math.random,
      clock: systemClock,
      port,
      api: plane,
      state: {
        load: async () => saved,
        save: async (state) => {
          saved = state;
        },
      },
      machine: {
        measure: async () => ({
          used: none,
          allocatable: none,
          reclaimableVolumeBytes: 0,
          trashedVolumeBytes: 0,
          volumeReason: null,
        }),
      },
      log: silentLog,
    }).run(stopping.signal);
    return async () => {
      stopping.abort(new Error("the test ends"));
      await ran;
    };
  }

  const reaches = ({ setId, generation }: LocalSetSpec) =>
    waitUntil(
      `generation ${generation} of the set is ready`,
      async () => {
        const report = plane.reportOf(setId);
        return report?.generation === generation && report.ready;
      },
      { deadlineMs: 120_000 },
    );

  it("leaves the other one, the infra container and the address as they are", async () => {
    const stop = startAgent();
    try {
      const made = localSet({ names: ["app", "trace"], template: { drainSeconds: 1 } });
      const set = plane.want({ ...made, desired: "running" });
      await reaches(set);
      const see = async () => ({
        containers: (await Promise.all(["app", "infra"].map((name) => inspect(set, name)))).map(
          ({ Id, State }) => ({ Id, Pid: State.Pid, StartedAt: State.StartedAt }),
        ),
        address: plane.reportOf(set.setId)?.address,
        restarts: plane.reportOf(set.setId)?.containers.map(({ restarts }) => restarts),
      });
      const before = await see();
      const trace = await inspect(set, "trace");
      const changed = plane.want(withOptions(set, { env: { COLOR: "blue" } }, "trace"));
      await reaches(changed);
      expect(await see()).toEqual(before);
      const replaced = await inspect(set, "trace");
      expect(replaced.Id).not.toBe(trace.Id);
      expect(replaced.Config.Env).toContain("COLOR=blue");
    } finally {
      await stop();
    }
  });
});

it("each stop has the timeout of the newest template", async () => {
  const command = ["sh", "-c", "trap '' TERM; sleep 1000 & wait"];
  const sets = await Promise.all(
    [1, 2, 3].map(() => run({ options: { stopTimeoutSeconds: 60, command } })),
  );
  const [replaced, stopped, removed] = sets.map((set) =>
    withOptions(set, { stopTimeoutSeconds: 1, env: { COLOR: "blue" } }),
  );
  if (!replaced || !stopped || !removed) throw new Error("three sets run");
  const startedAtMs = performance.now();
  await Promise.all([
    port.prepareContainer(replaced, "app", signal),
    port.stopAll(stopped.setId, signal, { set: stopped }),
    port.remove(removed.setId, signal, { set: removed }),
  ]);
  expect(performance.now() - startedAtMs).toBeLessThan(45_000);
  expect((await inspect(replaced, "app")).State.Status).toBe("created");
  expect((await inspect(stopped, "app")).State.Status).toBe("exited");
  expect(await port.observeSet(removed.setId, signal)).toBeUndefined();
});

describe("hooks", () => {
  /** Writes its signal to the output. */
  const command = ["sh", "-c", "trap 'echo signal; exit 0' TERM; sleep 1000 & wait"];
  const say = (text: string) => ["sh", "-c", `echo ${text} > /proc/1/fd/1`];
  const hook = (argv: string[], timeoutSeconds = 10) => ({
    exec: { command: argv },
    timeoutSeconds,
  });

  async function readOutput({ setId }: LocalSetSpec): Promise<string[]> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of port.logs(setId, "app", { tail: 10, follow: false }, signal))
      chunks.push(chunk);
    return Buffer.concat(chunks).toString().trim().split("\n");
  }

  async function runPostStart(set: LocalSetSpec) {
    const observed = await port.observeSet(set.setId, signal);
    const [container] = observed?.containers ?? [];
    if (!container) throw new Error("the set has a container");
    return port.postStart(set, { container, address: observed?.address }, signal);
  }

  it("run after the start and before the stop signal", async () => {
    const hooks = { postStart: hook(say("started")), preStop: hook(say("leaving")) };
    const set = await run({ options: { command, hooks } });
    expect(await runPostStart(set)).toEqual({ healthy: true });
    await port.stopAll(set.setId, signal, { set });
    expect(await readOutput(set)).toEqual(["started", "leaving", "signal"]);
  });

  it("do not run if the stop is urgent", async () => {
    const set = await run({ options: { command, hooks: { preStop: hook(say("leaving")) } } });
    await port.stopAll(set.setId, signal, { set, skipsHooks: true });
    expect(await readOutput(set)).toEqual(["signal"]);
  });

  it("delay the stop at most by their timeout", async () => {
    for (const argv of [["false"], ["no-such-program"], ["sleep", "1000"]]) {
      const set = await run({ options: { command, hooks: { preStop: hook(argv, 1) } } });
      await port.remove(set.setId, signal, { set });
      expect(await port.observeSet(set.setId, signal)).toBeUndefined();
    }
  });

  it("after a start report why they failed", async () => {
    const failing = ["sh", "-c", "echo not yet; exit 3"];
    const set = await run({ options: { command, hooks: { postStart: hook(failing) } } });
    expect(await runPostStart(set)).toMatchObject({
      healthy: false,
      detail: expect.stringContaining("exited with 3: not yet"),
    });
    const http = { http: { port: 1, path: "/" }, timeoutSeconds: 1 };
    const unreachable = withOptions(set, { hooks: { postStart: http } });
    expect(await runPostStart(unreachable)).toMatchObject({ healthy: false });
  });
});
