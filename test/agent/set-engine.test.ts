import { readFile } from "node:fs/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, expect, it } from "vitest";
import { containerLimits } from "../../src/agent/model/set-limits.ts";
import { createSetEngine, type SetEnginePorts } from "../../src/agent/engine/set-engine.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import type { SetVolumes } from "../../src/agent/ports/set-volumes.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { composeEnginePorts } from "../../src/main/compose/set-engine.ts";
import { localSet } from "../support/agent/local-set.ts";
import { removeHost } from "../support/docker/docker-host.ts";

const docker = new Docker();
const { signal } = new AbortController();
let hostId: string;
let ports: SetEnginePorts;

beforeEach(() => {
  hostId = newId("host");
  ports = composeEnginePorts({ docker, hostId, log: silentLog });
});
afterEach(() => removeHost(docker, hostId));

/** A gate that calls wait at until it opens. */
function createGate() {
  let open = () => {};
  const isOpen = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { isOpen, open: () => open() };
}

/** Volumes that do nothing, and whose mount waits for a gate. */
function createGatedVolumes(gate: Promise<void>): SetVolumes {
  return {
    getDataPath: () => "/tmp",
    ensure: () => gate,
    resize: async () => {},
    trash: async () => {},
    sizeOf: async () => 0,
    reload: async () => [],
  };
}

async function seeStates(engine: SetPort, { setId }: LocalSetSpec) {
  const seen = await engine.observeSet(setId, signal);
  const business = seen?.containers.map(({ name, state }) => [name, state]) ?? [];
  return Object.fromEntries([["infra", seen?.infra?.state], ...business]);
}

it("containers are created while the volume is mounted, and infra starts only afterwards", async () => {
  const gate = createGate();
  const engine = createSetEngine({ ...ports, volumes: createGatedVolumes(gate.isOpen) });
  const set = localSet({
    names: ["app", "log"],
    template: { volume: { size: "32Mi", mountPath: "/data" } },
  });
  const prepared = engine.prepare(set, signal);
  const created = { infra: "created", app: "created", log: "created" };
  await expect.poll(() => seeStates(engine, set)).toEqual(created);
  gate.open();
  await prepared;
  expect(await seeStates(engine, set)).toEqual({ ...created, infra: "running" });
});

it("a slow creation of one container delays neither infra nor the other containers", async () => {
  const gate = createGate();
  const { containers } = ports;
  const engine = createSetEngine({
    ...ports,
    containers: {
      ...containers,
      async createBusiness(set, name, options, callSignal) {
        if (name === "app") await gate.isOpen;
        return containers.createBusiness(set, name, options, callSignal);
      },
    },
  });
  const set = localSet({ names: ["app", "log"] });
  const prepared = engine.prepare(set, signal);
  const early = { infra: "running", log: "created" };
  await expect.poll(() => seeStates(engine, set)).toEqual(early);
  gate.open();
  await prepared;
  expect(await seeStates(engine, set)).toEqual({ ...early, app: "created" });
});

it("the set's cgroup exists before infra starts, and is deleted after it", async () => {
  const calls: string[] = [];
  const { cgroups, containers, network } = ports;
  const engine = createSetEngine({
    ...ports,
    cgroups: {
      ...cgroups,
      async ensure(...args) {
        await cgroups.ensure(...args);
        calls.push("cgroup");
      },
      async remove(...args) {
        calls.push("delete cgroup");
        await cgroups.remove(...args);
      },
    },
    network: {
      ...network,
      async prepare(...args) {
        calls.push("network");
        return network.prepare(...args);
      },
      async release(...args) {
        calls.push("release network");
        await network.release(...args);
      },
    },
    containers: {
      ...containers,
      async createInfra(...args) {
        calls.push("create infra");
        return containers.createInfra(...args);
      },
      async startInfra(...args) {
        calls.push("start infra");
        await containers.startInfra(...args);
      },
      async remove(container, ...args) {
        await containers.remove(container, ...args);
        calls.push(`delete ${container.name}`);
      },
    },
  });
  const set = localSet();
  await engine.prepare(set, signal);
  const place = (call: string) => calls.indexOf(call);
  expect(calls.toSorted()).toEqual(["cgroup", "create infra", "network", "start infra"]);
  expect(place("network")).toBeLessThan(place("create infra"));
  expect(place("start infra")).toBe(calls.length - 1);
  calls.length = 0;
  await engine.remove(set.setId, signal);
  expect(calls.slice(0, 2)).toEqual(["delete app", "delete infra"]);
  expect(calls.slice(2).toSorted()).toEqual(["delete cgroup", "release network"]);
});

it("containers run on none of the processors of the switch, and a resize corrects older ones", async () => {
  const readCpus = async (set: LocalSetSpec, name: string) => {
    const { State } = await docker.getContainer(`berth-${set.setId}-${name}`).inspect();
    const status = await readFile(`/proc/${State.Pid}/status`, "utf8");
    return /^Cpus_allowed_list:\t(.*)$/m.exec(status)?.[1];
  };
  const set = localSet({ options: { command: ["sleep", "1000"] } });
  const before = createSetEngine(ports);
  await before.prepare(set, signal);
  await before.start(set, ["app"], signal);
  expect(await readCpus(set, "app")).not.toBe("0");
  const restricted = composeEnginePorts({ docker, hostId, log: silentLog, cpus: [0] });
  const other = localSet({ options: { command: ["sleep", "1000"] } });
  const engine = createSetEngine(restricted);
  await engine.prepare(other, signal);
  await engine.start(other, ["app"], signal);
  for (const name of ["infra", "app"]) expect(await readCpus(other, name)).toBe("0");
  const filter = { setId: set.setId, phase: "observe" as const };
  const listed = await restricted.containers.list(filter, signal);
  const container = listed.find(({ name }) => name === "app");
  if (!container) throw new Error("the set has a container");
  const { template } = set;
  const options = { cpuPercent: 100, memoryPercent: 100 };
  const limits = containerLimits(template, options);
  await restricted.containers.updateLimits(container, limits, { includesMemory: false }, signal);
  expect(await readCpus(set, container.name)).toBe("0");
});
