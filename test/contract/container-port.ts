import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IMAGE_MISSING } from "../../src/agent/base/agent-error.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import { containerLimits } from "../../src/agent/model/set-limits.ts";
import type { ContainerPort, ListedContainer } from "../../src/agent/ports/container-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { localSet, type LocalSetChanges } from "../support/agent/local-set.ts";

export interface ContainerPortHarness {
  containers: ContainerPort;
  /** A second host on the same engine. */
  otherHost: ContainerPort;
  /** A reference of an image that the engine has. */
  image: string;
  infraImage: string;
  cgroupParentOf(setId: string): Promise<string>;
  listProcesses(setId: string, dockerId: string): Promise<readonly number[]>;
  /** Creates a container without Berth's labels that has the name of a container of the set. */
  occupyName(setId: string, name: string): Promise<{ isUntouched(): Promise<boolean> }>;
  close(): Promise<void>;
}

/** The contract of ContainerPort (src/agent/ports/container-port.ts). */
export function describeContainerPort(
  adapter: string,
  open: () => Promise<ContainerPortHarness>,
): void {
  describe(`ContainerPort: ${adapter}`, () => {
    let harness: ContainerPortHarness;
    let containers: ContainerPort;
    const { signal } = new AbortController();

    beforeEach(async () => {
      harness = await open();
      containers = harness.containers;
    });
    afterEach(() => harness.close());

    const newSet = (changes: LocalSetChanges = {}) =>
      localSet({ image: harness.image, names: ["app"], ...changes });
    const list = ({ setId }: LocalSetSpec) => containers.list({ setId, phase: "observe" }, signal);
    const createInfra = async (set: LocalSetSpec, image = harness.infraImage) => {
      const cgroupParent = await harness.cgroupParentOf(set.setId);
      const options = {
        image,
        cgroupParent,
        networks: [{ dockerNetwork: "bridge" }] as const,
        dataPath: undefined,
      };
      return containers.createInfra(set, options, signal);
    };
    const createBusiness = async (set: LocalSetSpec, name: string, infraId: string) => {
      const cgroupParent = await harness.cgroupParentOf(set.setId);
      const options = { infraId, cgroupParent, dataPath: undefined };
      return containers.createBusiness(set, name, options, signal);
    };
    const create = async (set: LocalSetSpec) => {
      const infraId = await createInfra(set);
      for (const { name } of set.template.containers) await createBusiness(set, name, infraId);
      return { infraId };
    };
    const run = async (set: LocalSetSpec) => {
      const { infraId } = await create(set);
      await containers.startInfra(set, infraId, signal);
      for (const container of (await list(set)).slice(1)) await containers.start(container, signal);
      return find(set, "app");
    };
    const find = async (set: LocalSetSpec, name: string): Promise<ListedContainer> => {
      const found = (await list(set)).find((container) => container.name === name);
      if (!found) throw new Error(`the set has no container ${name}`);
      return found;
    };
    const stateOf = async (set: LocalSetSpec, name: string) => (await find(set, name)).dockerState;

    it("lists no container of a set that was never created", async () => {
      expect(await containers.list({ setId: newId("set"), phase: "observe" }, signal)).toEqual([]);
    });

    it("lists infra first, and the facts of each creation, to its own host alone", async () => {
      const set = newSet({ names: ["log", "app"], generation: 7, restartGeneration: 3 });
      const { infraId } = await create(set);
      const listed = await list(set);
      expect(listed.map(({ name, index }) => [name, index])).toEqual([
        ["infra", -1],
        ["log", 0],
        ["app", 1],
      ]);
      for (const container of listed) {
        const { setId, tenant } = set;
        const facts = { setId, tenant, generation: 7, restartGeneration: 3 };
        expect(container).toMatchObject({ ...facts, dockerState: "created" });
      }
      expect(listed.map((container) => container.infraId)).toEqual([undefined, infraId, infraId]);
      expect(await containers.list({ phase: "observe" }, signal)).toEqual(listed);
      expect(await harness.otherHost.list({ phase: "observe" }, signal)).toEqual([]);
    });

    it("starts, stops and removes, and each repetition is harmless", async () => {
      const set = newSet({ template: { sysctls: { "net.core.somaxconn": "1234" } } });
      const app = await run(set);
      const infra = await find(set, "infra");
      const { dockerId } = infra;
      await containers.startInfra(set, dockerId, signal);
      await containers.startInfra(set, dockerId, signal);
      await containers.start(app, signal);
      expect(await stateOf(set, "app")).toBe("running");
      expect(infra.address).toMatch(/^[0-9.]+$/);
      for (const timeoutSeconds of [undefined, 1])
        await containers.stop(app.dockerId, { timeoutSeconds }, signal);
      expect(await stateOf(set, "app")).toBe("exited");
      for (const container of [app, app, infra, infra])
        await containers.remove(container, "remove", signal);
      await containers.stop(app.dockerId, {}, signal);
      expect(await list(set)).toEqual([]);
    });

    it("inspects a container in each state, and a missing one is undefined", async () => {
      const set = newSet();
      await create(set);
      const created = await containers.inspect(await find(set, "app"), signal);
      expect(created).toMatchObject({ dockerState: "created", process: undefined, oomKills: 0 });
      expect(created?.cgroupParent).toBe(await harness.cgroupParentOf(set.setId));
      const infra = await find(set, "infra");
      await containers.startInfra(set, infra.dockerId, signal);
      await containers.start(await find(set, "app"), signal);
      const running = await containers.inspect(await find(set, "app"), signal);
      const infraDetails = await containers.inspect(await find(set, "infra"), signal);
      expect(running?.process?.id).toBeTypeOf("string");
      expect(running?.process?.network).toBe(infraDetails?.process?.network);
      const app = await find(set, "app");
      await containers.remove(app, "remove", signal);
      expect(await containers.inspect(app, signal)).toBeUndefined();
    });

    it("starts no container whose infra does not run, with a temporary error", async () => {
      const set = newSet();
      await create(set);
      const starting = containers.start(await find(set, "app"), signal);
      await expect(starting).rejects.toMatchObject({ code: "infra-not-running", temporary: true });
    });

    it("never changes a foreign container that has the name", async () => {
      const set = newSet();
      const foreign = await harness.occupyName(set.setId, "app");
      const infraId = await createInfra(set);
      await expect(createBusiness(set, "app", infraId)).rejects.toMatchObject({
        code: "name-conflict",
        temporary: false,
      });
      await expect(createInfra(set)).rejects.toMatchObject({
        code: "docker-conflict",
        temporary: true,
      });
      expect((await list(set)).map(({ name }) => name)).toEqual(["infra"]);
      expect(await foreign.isUntouched()).toBe(true);
    });

    it("rejects with a code of its own if the image is missing", async () => {
      const set = newSet({ image: "berth.invalid/no-such-image:1" });
      const missing = { name: "AgentError", code: IMAGE_MISSING, phase: "image", temporary: true };
      await expect(createInfra(set, "berth.invalid/no-infra:1")).rejects.toMatchObject(missing);
      const infraId = await createInfra(set);
      await expect(createBusiness(set, "app", infraId)).rejects.toMatchObject(missing);
    });

    it("changes limits without a restart, with and without memory", async () => {
      const set = newSet();
      const app = await run(set);
      const before = await containers.inspect(app, signal);
      const options = { cpuPercent: 25, memoryPercent: 25 };
      const limits = containerLimits(set.template, options);
      await containers.updateLimits(app, limits, { includesMemory: false }, signal);
      const { cpuQuotaUs, memoryBytes } = limits;
      const oldMemory = before?.limits.memoryBytes;
      const partly = await containers.inspect(app, signal);
      expect(partly?.limits).toMatchObject({ cpuQuotaUs, memoryBytes: oldMemory });
      for (let round = 0; round < 2; round++)
        await containers.updateLimits(app, limits, { includesMemory: true }, signal);
      const after = await containers.inspect(app, signal);
      expect(after?.limits).toMatchObject({ cpuQuotaUs, memoryBytes });
      expect(after?.process).toEqual(before?.process);
    });

    it("probes with a command, and a late one leaves no process", async () => {
      const set = newSet();
      const app = await run(set);
      const listProcesses = () => harness.listProcesses(set.setId, app.dockerId);
      const probe = (command: string[], timeoutSeconds = 60) =>
        containers.probe(app, { command, timeoutSeconds, listProcesses }, signal);
      expect(await probe(["true"])).toEqual({ healthy: true });
      expect(await probe(["/bin/sh", "-c", "echo sick; exit 3"])).toEqual({
        healthy: false,
        detail: '"/bin/sh" exited with 3: sick',
      });
      expect(await probe(["/no/such/program"])).toMatchObject({ healthy: false });
      const before = await listProcesses();
      expect(await probe(["sleep", "1000"], 1)).toEqual({
        healthy: false,
        detail: '"sleep" took more than 1000 ms',
      });
      expect(await listProcesses()).toEqual(before);
    });

    it("notifies a listener of the changes of its own host, until aborted", async () => {
      const watching = new AbortController();
      const changed = new Set<string>();
      let opens = 0;
      const listener = {
        onChange: (setId: string) => void changed.add(setId),
        onOpen: () => void opens++,
      };
      const watched = containers.watch(listener, watching.signal);
      const foreign = new Set<string>();
      const onForeign = { onChange: (setId: string) => void foreign.add(setId) };
      const otherWatched = harness.otherHost.watch(onForeign, watching.signal);
      await expect.poll(() => opens).toBe(1);
      const set = newSet();
      await run(set);
      await expect.poll(() => [...changed]).toEqual([set.setId]);
      watching.abort();
      await Promise.all([watched, otherWatched]);
      expect([...foreign]).toEqual([]);
    });

    it("rejects with the reason of a signal that is already aborted", async () => {
      const aborted = AbortSignal.abort(new Error("stopping"));
      const listing = containers.list({ phase: "observe" }, aborted);
      await expect(listing).rejects.toThrow("stopping");
    });
  });
}
