import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { IMAGE_MISSING } from "../../src/agent/base/agent-error.ts";
import type { Limits, LocalSetSpec, ObservedLocalSet } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import { areLimitsApplied } from "../../src/agent/model/set-limits.ts";
import { specHash } from "../../src/agent/model/spec-hash.ts";
import { newId } from "../../src/lib/ids.ts";
import { localSet, type LocalSetChanges } from "../support/agent/local-set.ts";
import { waitUntil } from "../support/wait-until.ts";

/** Requirements of the suite beside the port: a new host, and ways to disturb its containers. */
export interface SetPortHarness {
  port: SetPort;
  /** A second host on the same engine. It must neither see nor change objects of the first one. */
  otherHost: SetPort;
  /** A reference of an image that the engine has. */
  image: string;
  /** Ends the main process of a running container, like a crash. */
  crash(dockerId: string): Promise<void>;
  /** Deletes a container without the port. */
  removeExternally(dockerId: string): Promise<void>;
  /** Changes a container's limits without the port. */
  limitExternally(dockerId: string, limits: Limits): Promise<void>;
  close(): Promise<void>;
}

function breakImage(set: LocalSetSpec, name: string): void {
  for (const container of set.template.containers)
    if (container.name === name) container.image = "berth.invalid/no-such-image:1";
}

/** The contract of SetPort (src/agent/ports/set-port.ts), for every adapter. */
export function describeSetPort(adapter: string, open: () => Promise<SetPortHarness>): void {
  describe(`SetPort: ${adapter}`, () => {
    let harness: SetPortHarness;
    let port: SetPort;
    const made = new Set<string>();
    const { signal } = new AbortController();

    beforeEach(async () => {
      harness = await open();
      port = harness.port;
    });
    afterEach(async () => {
      await Promise.all([...made].map((setId) => port.remove(setId, signal)));
      made.clear();
      await harness.close();
    });

    const newSet = (changes: LocalSetChanges = {}): LocalSetSpec => {
      const set = localSet({ image: harness.image, ...changes });
      made.add(set.setId);
      return set;
    };
    const names = (set: LocalSetSpec) => set.template.containers.map(({ name }) => name);
    const run = async (set: LocalSetSpec) => {
      await port.prepare(set, signal);
      await port.start(set, names(set), signal);
    };
    const see = async (set: LocalSetSpec): Promise<ObservedLocalSet> => {
      const observed = await port.observeSet(set.setId, signal);
      if (!observed) throw new Error(`${set.setId} does not exist`);
      return observed;
    };
    const states = (observed: ObservedLocalSet) =>
      Object.fromEntries(observed.containers.map(({ name, state }) => [name, state]));
    const ids = (observed: ObservedLocalSet) =>
      [observed.infra, ...observed.containers].map((container) => container?.dockerId);

    it("observes no set that was never prepared", async () => {
      expect(await port.observeSet(newId("set"), signal)).toBeUndefined();
    });

    it("starts infra and creates the business containers when it prepares", async () => {
      const set = newSet({ names: ["app", "log"], generation: 7 });
      await port.prepare(set, signal);
      const observed = await see(set);
      expect(observed.generation).toBe(7);
      expect(observed.infra?.state).toBe("running");
      expect(observed.infra?.specHash).toBe(specHash(set, "infra"));
      expect(observed.infraRun).toBeTypeOf("string");
      expect(observed.address).toMatch(/^[0-9.]+$/);
      expect(states(observed)).toEqual({ app: "created", log: "created" });
      expect(observed.containers.map(({ specHash: hash }) => hash)).toEqual([
        specHash(set, "app"),
        specHash(set, "log"),
      ]);
      expect(observed.containers[0]).toMatchObject({ exitCode: undefined, startedAt: undefined });
    });

    it("starts only the named containers, and a repetition is harmless", async () => {
      const set = newSet({ names: ["app", "log"] });
      await port.prepare(set, signal);
      await port.start(set, ["log"], signal);
      expect(states(await see(set))).toEqual({ app: "created", log: "running" });
      await port.start(set, ["app", "log"], signal);
      const observed = await see(set);
      expect(states(observed)).toEqual({ app: "running", log: "running" });
      expect(Date.parse(observed.containers[0]?.startedAt ?? "")).toBeGreaterThan(0);
    });

    it("starts no container that has run since the observation, and another one is started", async () => {
      const set = newSet({ names: ["job", "app"] });
      await port.prepare(set, signal);
      const seen = await see(set);
      // A killed agent has requested this start, and the job ends.
      await port.start(set, ["job"], signal);
      const { dockerId = "" } = (await see(set)).containers.find((one) => one.name === "job") ?? {};
      await harness.crash(dockerId);
      await waitUntil("the job has ended", async () => states(await see(set))["job"] === "exited");
      await port.start(set, ["job", "app"], signal, { seen });
      const ended = await see(set);
      expect(states(ended)).toEqual({ job: "exited", app: "running" });
      await port.start(set, ["job"], signal, { seen: ended });
      expect(states(await see(set))).toEqual({ job: "running", app: "running" });
    });

    it("changes nothing of a set that has its desired state", async () => {
      const set = newSet();
      await run(set);
      const before = await see(set);
      await run(set);
      expect(await see(set)).toEqual(before);
    });

    it("refuses to start an unprepared set, with a temporary error", async () => {
      const set = newSet();
      await expect(port.start(set, ["app"], signal)).rejects.toMatchObject({
        name: "AgentError",
        temporary: true,
      });
    });

    it("replaces all containers for a newer restart generation", async () => {
      const set = newSet({ restartGeneration: 1 });
      await run(set);
      const before = await see(set);
      const restarted = { ...set, generation: 2, restartGeneration: 2 };
      await port.prepare(restarted, signal);
      const after = await see(restarted);
      for (const id of ids(after)) expect(ids(before)).not.toContain(id);
      expect(after.infra?.restartGeneration).toBe(2);
      expect(states(after)).toEqual({ app: "created" });
    });

    it("changes limits in place, and the same containers keep running", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const before = await see(set);
      expect(areLimitsApplied(set.template, before)).toBe(true);
      for (const [cpuMillis, mebibytes] of [
        [2_000, 256],
        [500, 64],
        [1_500, 32],
      ] as const) {
        const template = { ...set.template, cpuMillis, memoryBytes: mebibytes * 2 ** 20 };
        const resized = { ...set, generation: set.generation + 1, template };
        expect(areLimitsApplied(template, await see(set))).toBe(false);
        await port.resize(resized, signal);
        const after = await see(resized);
        expect(areLimitsApplied(template, after)).toBe(true);
        expect(ids(after)).toEqual(ids(before));
        expect(after.containers.map(({ startedAt }) => startedAt)).toEqual(
          before.containers.map(({ startedAt }) => startedAt),
        );
        expect(states(after)).toEqual({ app: "running", log: "running" });
        await run(resized);
        expect(ids(await see(resized))).toEqual(ids(before));
      }
    });

    it("observes foreign changes of limits, and corrects them only in a resize", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const before = await see(set);
      const limits = { cpuQuotaUs: 7_000, cpuShares: 70, memoryBytes: 32 * 2 ** 20 };
      await harness.limitExternally(before.containers[1]?.dockerId ?? "", limits);
      await run(set);
      const changed = await see(set);
      expect(changed.containers[1]?.limits).toMatchObject(limits);
      expect(areLimitsApplied(set.template, changed)).toBe(false);
      await port.resize(set, signal);
      await port.resize(set, signal);
      expect(await see(set)).toEqual(before);
    });

    it("replaces only the container whose spec changed", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const before = await see(set);
      const changed = structuredClone(set);
      const app = changed.template.containers.find(({ name }) => name === "app");
      if (app) app.options.env = { COLOR: "blue" };
      await port.prepare(changed, signal);
      expect(ids(await see(changed))).toEqual(ids(before));
      await port.prepareContainer(changed, "log", signal);
      await port.prepareContainer(changed, "app", signal);
      const after = await see(changed);
      expect(states(after)).toEqual({ app: "created", log: "running" });
      expect(after.containers[1]).toEqual(before.containers[1]);
      expect(after.containers[0]?.specHash).toBe(specHash(changed, "app"));
    });

    it("replaces a container whose template begins to override the stop signal of its image", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const changed = structuredClone(set);
      const app = changed.template.containers.find(({ name }) => name === "app");
      if (app) app.options.stopSignal = "SIGTERM";
      await port.prepareContainer(changed, "app", signal);
      expect(states(await see(changed))).toEqual({ app: "created", log: "running" });
    });

    it("removes a container that the template no longer has", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const smaller = structuredClone(set);
      smaller.template.containers = smaller.template.containers.filter(
        ({ name }) => name === "app",
      );
      await port.prepare(smaller, signal);
      expect(states(await see(smaller))).toEqual({ app: "running" });
    });

    it("stops and starts the same container", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      await port.stop(set, ["app"], signal);
      await port.stop(set, ["app"], signal);
      const stopped = await see(set);
      expect(states(stopped)).toEqual({ app: "exited", log: "running" });
      expect(stopped.containers[0]?.exitCode).toBeTypeOf("number");
      await port.start(set, ["app"], signal);
      const again = await see(set);
      expect(states(again)).toEqual({ app: "running", log: "running" });
      expect(ids(again)).toEqual(ids(stopped));
    });

    it("stops all containers without removing them, and starts the same ones again", async () => {
      const set = newSet();
      await run(set);
      const before = await see(set);
      await port.stopAll(set.setId, signal);
      const stopped = await see(set);
      expect(stopped.infra?.state).toBe("exited");
      expect(stopped.address).toBeUndefined();
      expect(states(stopped)).toEqual({ app: "exited" });
      await run(set);
      const after = await see(set);
      expect(states(after)).toEqual({ app: "running" });
      expect(ids(after)).toEqual(ids(before));
    });

    it("reports a crash with its exit code, and starts the container again", async () => {
      const set = newSet();
      await run(set);
      const [app] = (await see(set)).containers;
      await harness.crash(app?.dockerId ?? "");
      const crashed = await waitUntil("the crash is seen", async () => {
        const [container] = (await see(set)).containers;
        return container?.state === "exited" ? container : undefined;
      });
      expect(crashed.exitCode).not.toBe(0);
      expect(crashed.exitCode).toBeTypeOf("number");
      expect(crashed.finishedAt).toBeTypeOf("string");
      await port.start(set, ["app"], signal);
      expect(states(await see(set))).toEqual({ app: "running" });
    });

    it("restarts a container that lost the network of a crashed infra container", async () => {
      const set = newSet();
      await run(set);
      const before = await see(set);
      await harness.crash(before.infra?.dockerId ?? "");
      await waitUntil("infra has exited", async () => (await see(set)).infra?.state === "exited");
      await run(set);
      const after = await see(set);
      expect(after.infra?.state).toBe("running");
      expect(states(after)).toEqual({ app: "running" });
      expect(after.infraRun).not.toBe(before.infraRun);
      expect(ids(after)).toEqual(ids(before));
      expect(after.containers[0]?.startedAt).not.toBe(before.containers[0]?.startedAt);
    });

    it("creates no container that has completed, and another one is created", async () => {
      const set = newSet({ names: ["app", "job"] });
      await run(set);
      const job = (await see(set)).containers.find(({ name }) => name === "job");
      await port.stop(set, ["job"], signal);
      await harness.removeExternally(job?.dockerId ?? "");
      await port.prepare(set, signal, { completed: ["job"] });
      expect(states(await see(set))).toEqual({ app: "running" });
      await port.prepare(set, signal);
      expect(states(await see(set))).toEqual({ app: "running", job: "created" });
    });

    it("replaces a container that was removed externally", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const before = await see(set);
      await harness.removeExternally(before.containers[0]?.dockerId ?? "");
      await run(set);
      const after = await see(set);
      expect(states(after)).toEqual({ app: "running", log: "running" });
      expect(after.containers[1]).toEqual(before.containers[1]);
    });

    it("removes everything of a set by its id alone, and a repetition is harmless", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      await port.remove(set.setId, signal);
      expect(await port.observeSet(set.setId, signal)).toBeUndefined();
      await port.remove(set.setId, signal);
      await port.stopAll(set.setId, signal);
      expect((await port.observe(signal)).map(({ setId }) => setId)).not.toContain(set.setId);
    });

    it("observes all sets of this host and no other", async () => {
      const sets = [newSet(), newSet(), newSet()];
      await Promise.all(sets.map((set) => run(set)));
      const observed = await port.observe(signal);
      expect(observed.map(({ setId }) => setId).sort()).toEqual(
        sets.map(({ setId }) => setId).sort(),
      );
      expect(await harness.otherHost.observe(signal)).toEqual([]);
    });

    it("never changes another host's set with the same id", async () => {
      const set = newSet();
      await run(set);
      const before = await see(set);
      await harness.otherHost.stopAll(set.setId, signal);
      await harness.otherHost.remove(set.setId, signal);
      expect(await see(set)).toEqual(before);
    });

    it("prepares the other containers if an image is missing", async () => {
      const set = newSet({ names: ["app", "log"] });
      breakImage(set, "app");
      const missing = { name: "AgentError", phase: "image", code: IMAGE_MISSING };
      const failures = await port.prepare(set, signal);
      expect(failures).toMatchObject([{ container: "app", error: missing }]);
      expect(states(await see(set))).toEqual({ log: "created" });
      await port.start(set, ["log"], signal);
      await expect(port.prepareContainer(set, "app", signal)).rejects.toMatchObject(missing);
      expect(states(await see(set))).toEqual({ log: "running" });
    });

    it("removes no container to replace it by one whose image is missing", async () => {
      const set = newSet({ names: ["app", "log"], restartGeneration: 1 });
      await run(set);
      const before = await see(set);
      const missing = { name: "AgentError", code: IMAGE_MISSING };
      const changed = structuredClone(set);
      breakImage(changed, "app");
      await expect(port.prepareContainer(changed, "app", signal)).rejects.toMatchObject(missing);
      const restarted = { ...changed, generation: 2, restartGeneration: 2 };
      await expect(port.prepare(restarted, signal)).rejects.toMatchObject(missing);
      expect(await see(set)).toEqual(before);
    });

    it("replaces no running container while the image of another outdated one is missing", async () => {
      const set = newSet({ names: ["app", "log"] });
      await run(set);
      const before = await see(set);
      const changed = structuredClone(set);
      breakImage(changed, "log");
      for (const { options } of changed.template.containers) options.env = { COLOR: "blue" };
      const missing = { code: IMAGE_MISSING, containers: ["log"] };
      await expect(port.prepareContainer(changed, "app", signal)).rejects.toMatchObject(missing);
      expect(await see(set)).toEqual(before);
    });

    it("prepares and starts the containers of one set concurrently", async () => {
      const set = newSet({ names: ["a", "b", "c"] });
      await run(set);
      const before = await see(set);
      const changed = structuredClone(set);
      for (const { options } of changed.template.containers) options.env = { COLOR: "blue" };
      await Promise.all(
        ["a", "b"].map(async (name) => {
          await port.prepareContainer(changed, name, signal);
          await port.start(changed, [name], signal);
        }),
      );
      const after = await see(changed);
      expect(states(after)).toEqual({ a: "running", b: "running", c: "running" });
      expect(after.infra).toEqual(before.infra);
      expect(after.containers[2]).toEqual(before.containers[2]);
      expect(after.containers[0]?.specHash).toBe(specHash(changed, "a"));
    });

    it("fails to prepare a container of an unprepared set, with a temporary error", async () => {
      const set = newSet();
      await expect(port.prepareContainer(set, "app", signal)).rejects.toMatchObject({
        name: "AgentError",
        temporary: true,
      });
    });

    it("notifies a watcher of a changed set, until aborted", async () => {
      const seen = new Set<string>();
      const watching = new AbortController();
      const watch = port.watch((setId) => seen.add(setId), watching.signal);
      const set = newSet();
      await waitUntil("the watcher is notified of a start", async () => {
        await run(set);
        await port.stop(set, ["app"], signal);
        return seen.has(set.setId);
      });
      seen.clear();
      await run(set);
      await waitUntil("the watcher is notified of the second start", () => seen.has(set.setId));
      watching.abort();
      await watch;
      expect([...seen]).toEqual([set.setId]);
    });

    it("ends a log without follow at its last line, and a followed log when aborted", async () => {
      const set = newSet();
      await run(set);
      const reading = new AbortController();
      const read = async (follow: boolean) => {
        let bytes = 0;
        for await (const chunk of port.logs(
          set.setId,
          "app",
          { tail: 100, follow },
          reading.signal,
        )) {
          bytes += chunk.length;
        }
        return bytes;
      };
      expect(await read(false)).toBeGreaterThanOrEqual(0);
      // The abort may come before the log is open. Then the call rejects with its reason.
      const ended = read(true).catch((error: unknown) => {
        expect(error).toBe(reading.signal.reason);
        return 0;
      });
      setTimeout(() => reading.abort(), 50);
      expect(await ended).toBeGreaterThanOrEqual(0);
    });

    it("answers pings and lists its images", async () => {
      await port.ping(2_000);
      expect(await port.images(signal)).toContain(harness.image);
    });

    it("rejects with the reason of a signal that is already aborted", async () => {
      const aborted = AbortSignal.abort(new Error("stopping"));
      const set = newSet();
      await expect(port.prepare(set, aborted)).rejects.toThrow("stopping");
    });
  });
}
