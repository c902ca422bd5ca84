import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { dockerName } from "../../src/host-adapters/docker/container-labels.ts";
import { composeSetEngine } from "../../src/main/compose/set-engine.ts";
import { createVolumes } from "../../src/host-adapters/volumes/volumes.ts";
import { AgentError } from "../../src/agent/base/agent-error.ts";
import { INFRA_CONTAINER } from "../../src/agent/model/container-names.ts";
import type { LocalSetSpec } from "../../src/agent/model/local-set.ts";
import type { SetPort } from "../../src/agent/ports/set-port.ts";
import type { VolumePort } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { baseImage } from "../support/docker/docker.ts";
import { execIn } from "../support/docker/docker-exec.ts";
import { removeHost } from "../support/docker/docker-host.ts";
import { localSet, type LocalSetChanges } from "../support/agent/local-set.ts";
import { mayGrowExt4, openLoopHarness } from "../support/volumes/loop-harness.ts";

const docker = new Docker();
const { signal } = new AbortController();
const MiB = 2 ** 20;
const sizeBytes = 32 * MiB;

describe("sets with a volume on Docker", () => {
  let harness: VolumeHarness;
  let hostId: string;
  let volumes: VolumePort;
  let port: SetPort;

  beforeEach(async () => {
    harness = await openLoopHarness("ext4", sizeBytes);
    hostId = newId("host");
    openPorts();
  });
  afterEach(async () => {
    await removeHost(docker, hostId);
    await harness.close();
  });

  /** Opens the ports like a restarted agent. */
  function openPorts(store = harness.openStore()): void {
    const options = { root: harness.root, fileSystem: harness.fileSystem, retentionMs: 3_600_000 };
    volumes = createVolumes({ store, ...options, purgesEarly: false, log: silentLog });
    port = composeSetEngine({ docker, hostId, log: silentLog, volumes });
  }

  const withVolume = (changes: LocalSetChanges = {}): LocalSetSpec =>
    localSet({
      image: baseImage,
      names: ["app", "side"],
      template: { volume: { size: `${sizeBytes / MiB}Mi`, mountPath: "/data" } },
      ...changes,
    });

  async function run(set: LocalSetSpec): Promise<void> {
    await port.prepare(set, signal);
    await port.start(set, ["app", "side"], signal);
  }

  const inside = ({ setId }: LocalSetSpec, container: string, command: string) =>
    execIn(docker, { setId, container }, command);

  it("all containers share the volume at its mount path, and its size limits them", async () => {
    const set = withVolume();
    await run(set);
    await inside(set, "app", "echo shared > /data/file");
    expect(await inside(set, "side", "cat /data/file; ls /data")).toContain("shared");
    expect(await inside(set, "side", "ls -a /data")).not.toContain("lost+found");
    const said = await inside(set, "app", "dd if=/dev/zero of=/data/filler bs=1M; echo ended");
    expect(said).toContain("No space left on device");
    expect(await inside(set, "side", "cat /data/file")).toContain("shared");
  });

  it("I10: tenant data is in no path where the privileged infra container searches programs", async () => {
    const set = withVolume();
    await run(set);
    await inside(set, "app", "printf '#!/data/sh' > /data/sh; chmod +x /data/sh");
    await port.remove(set.setId, signal);
    const [trashed] = await volumes.list(signal);
    const { template } = withVolume({ template: { volume: { size: "32Mi", mountPath: "/bin" } } });
    const heir = { ...withVolume(), template, restoreVolumeId: trashed?.volumeId ?? null };
    await port.prepare(heir, signal);
    const mountsOf = async (name: string) => {
      const { State, Mounts } = await docker.getContainer(dockerName(heir.setId, name)).inspect();
      return {
        state: State.Status,
        mounts: Mounts.map(({ Destination, RW }) => [Destination, RW]),
      };
    };
    expect(await mountsOf(INFRA_CONTAINER)).toEqual({
      state: "running",
      mounts: [["/berth-volume", false]],
    });
    expect(await mountsOf("app")).toMatchObject({ mounts: [["/bin", true]] });
  });

  it("a volume's data survives its containers and a reboot", async () => {
    const set = withVolume();
    await run(set);
    await inside(set, "app", "echo retained > /data/file");
    const again = { ...set, generation: 2, restartGeneration: 2 };
    await run(again);
    expect(await inside(again, "side", "cat /data/file")).toContain("retained");
    await port.stopAll(set.setId, signal);
    await harness.reboot();
    openPorts();
    await run(again);
    expect(await inside(again, "app", "cat /data/file")).toContain("retained");
  });

  it("a container that starts without the mounted volume fails, and writes nothing to the host", async () => {
    const set = withVolume();
    await run(set);
    await port.stopAll(set.setId, signal);
    await harness.reboot();
    const seen = await port.observeSet(set.setId, signal);
    const infra = docker.getContainer(seen?.infra?.dockerId ?? "");
    await expect(infra.start()).rejects.toThrow();
  });

  it("the removal of a set trashes its volume, and a set of the same service restores it", async () => {
    const set = withVolume();
    await run(set);
    await inside(set, "app", "echo precious > /data/file");
    await port.remove(set.setId, signal);
    expect(await port.observeSet(set.setId, signal)).toBeUndefined();
    const [trashed] = await volumes.list(signal);
    expect(trashed).toMatchObject({ state: "trashed", setId: set.setId });
    const heir = { ...withVolume(), restoreVolumeId: trashed?.volumeId ?? null };
    await run(heir);
    expect(await inside(heir, "side", "cat /data/file")).toContain("precious");
  });

  it("a set starts although its volume cannot grow, and its resize reports the reason", async () => {
    const set = withVolume();
    await run(set);
    await port.stopAll(set.setId, signal);
    await harness.reboot();
    const store = harness.openStore();
    const grow = store.grow.bind(store);
    const full = { phase: "volume" as const, temporary: true };
    store.grow = () => Promise.reject(new AgentError("volume-no-room", "the host is full", full));
    openPorts(store);
    const { template } = withVolume({
      template: { volume: { size: `${(2 * sizeBytes) / MiB}Mi`, mountPath: "/data" } },
    });
    const larger = { ...set, template };
    await run(larger);
    expect(await port.observeSet(set.setId, signal)).toMatchObject({ volumeBytes: sizeBytes });
    await expect(port.resize(larger, signal)).rejects.toMatchObject({ code: "volume-no-room" });
    expect(await inside(larger, "app", "echo written > /data/file && echo fine")).toContain("fine");
    if (!(await mayGrowExt4())) return;
    store.grow = grow;
    await port.resize(larger, signal);
    expect(await port.observeSet(set.setId, signal)).toMatchObject({ volumeBytes: 2 * sizeBytes });
  });

  it("sets without a volume are started, observed and removed while volumes cannot be listed", async () => {
    const set = withVolume();
    await run(set);
    const store = harness.openStore();
    const missing = () =>
      Promise.reject(
        new AgentError("volume-missing", "no group", { phase: "volume", temporary: true }),
      );
    let isThere = false;
    const list = store.list.bind(store);
    store.list = (...args) => (isThere ? list(...args) : missing());
    openPorts(store);
    const other = withVolume({ template: {} });
    await run(other);
    expect(await port.observe(signal)).toHaveLength(2);
    const seen = await port.observeSet(set.setId, signal);
    expect(seen?.containers.map(({ state }) => state)).toEqual(["running", "running"]);
    expect(seen?.volumeBytes).toBeUndefined();
    await port.remove(other.setId, signal);
    expect(await port.observeSet(other.setId, signal)).toBeUndefined();
    // The removal of a set with a known volume waits for the volume.
    isThere = true;
    await port.observe(signal);
    isThere = false;
    expect(await port.observeSet(set.setId, signal)).toMatchObject({ volumeBytes: sizeBytes });
    await expect(port.remove(set.setId, signal)).rejects.toMatchObject({ code: "volume-missing" });
    expect(await port.observeSet(set.setId, signal)).toBeDefined();
    isThere = true;
    await port.remove(set.setId, signal);
    expect(await port.observeSet(set.setId, signal)).toBeUndefined();
    expect(await volumes.list(signal)).toMatchObject([{ state: "trashed" }]);
  });

  it("a failed preparation leaves no work on the volume in progress", async () => {
    const set = withVolume();
    const store = harness.openStore();
    const create = store.create.bind(store);
    let inFlight = 0;
    store.create = async (...args) => {
      inFlight++;
      await delay(500);
      await create(...args);
      inFlight--;
    };
    openPorts(store);
    const name = dockerName(set.setId, "infra");
    const foreign = await docker.createContainer({ name, Image: baseImage });
    try {
      await expect(port.prepare(set, signal)).rejects.toMatchObject({ code: "name-conflict" });
      expect(inFlight).toBe(0);
      expect(await volumes.list(signal)).toMatchObject([{ setId: set.setId, state: "live" }]);
    } finally {
      await foreign.remove({ force: true });
    }
  });

  it("a set of which only a volume remains is observed, and its removal completes", async () => {
    const set = withVolume();
    await volumes.ensure({ ...set, sizeBytes }, signal);
    await writeFile(join(volumes.getDataPath(set), "file"), "precious");
    openPorts();
    expect(await port.observe(signal)).toMatchObject([{ setId: set.setId, containers: [] }]);
    await port.remove(set.setId, signal);
    expect(await port.observe(signal)).toEqual([]);
    const [trashed] = await volumes.list(signal);
    const heir = { ...withVolume(), restoreVolumeId: trashed?.volumeId ?? null };
    await port.prepare(heir, signal);
    expect(
      await readFile(
        join(volumes.getDataPath({ setId: heir.setId, restoreFrom: trashed?.volumeId }), "file"),
        "utf8",
      ),
    ).toBe("precious");
  });
});
