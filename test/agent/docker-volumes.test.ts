import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Docker from "dockerode";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createDockerSetPort } from "../../src/agent/adapters/docker/docker-set-port.ts";
import { createVolumes } from "../../src/agent/adapters/volume/volumes.ts";
import type { LocalSetSpec, SetPort } from "../../src/agent/ports/set-port.ts";
import type { VolumePort } from "../../src/agent/ports/volume-port.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import type { VolumeHarness } from "../contract/volume-contract.ts";
import { baseImage } from "../support/docker.ts";
import { execIn } from "../support/docker-exec.ts";
import { removeHost } from "../support/docker-host.ts";
import { localSet, type LocalSetChanges } from "../support/local-set.ts";
import { openLoopHarness } from "../support/loop-harness.ts";

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

  /** As a new life of the agent does. */
  function openPorts(): void {
    const options = { root: harness.root, fileSystem: harness.fileSystem, retentionMs: 3_600_000 };
    const store = harness.openStore();
    volumes = createVolumes({ store, ...options, purgesEarly: false, log: silentLog });
    port = createDockerSetPort({ docker, hostId, log: silentLog, volumes });
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

  it("every container has it at its place, it is theirs together, and it is full when it is full", async () => {
    const set = withVolume();
    await run(set);
    await inside(set, "app", "echo shared > /data/file");
    expect(await inside(set, "side", "cat /data/file; ls /data")).toContain("shared");
    expect(await inside(set, "side", "ls -a /data")).not.toContain("lost+found");
    const said = await inside(set, "app", "dd if=/dev/zero of=/data/filler bs=1M; echo ended");
    expect(said).toContain("No space left on device");
    expect(await inside(set, "side", "cat /data/file")).toContain("shared");
  });

  it("what is in it outlives the containers, and a boot of the host", async () => {
    const set = withVolume();
    await run(set);
    await inside(set, "app", "echo kept > /data/file");
    const again = { ...set, generation: 2, restartGeneration: 2 };
    await run(again);
    expect(await inside(again, "side", "cat /data/file")).toContain("kept");
    await port.stopAll(set.setId, signal);
    await harness.reboot();
    openPorts();
    await run(again);
    expect(await inside(again, "app", "cat /data/file")).toContain("kept");
  });

  it("a container that is started while it is not mounted fails, and writes nothing beside it", async () => {
    const set = withVolume();
    await run(set);
    await port.stopAll(set.setId, signal);
    await harness.reboot();
    const seen = await port.observeSet(set.setId, signal);
    const infra = docker.getContainer(seen?.infra?.dockerId ?? "");
    await expect(infra.start()).rejects.toThrow();
  });

  it("removing the set puts it in the trash, and a set of the same service gets it back", async () => {
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

  it("a set of which only the volume is left is still there, and is removed to the end", async () => {
    const set = withVolume();
    await volumes.ensure({ ...set, sizeBytes }, signal);
    await writeFile(join(volumes.dataPathOf(set), "file"), "precious");
    openPorts();
    expect(await port.observe(signal)).toMatchObject([{ setId: set.setId, containers: [] }]);
    await port.remove(set.setId, signal);
    expect(await port.observe(signal)).toEqual([]);
    const [trashed] = await volumes.list(signal);
    const heir = { ...withVolume(), restoreVolumeId: trashed?.volumeId ?? null };
    await port.prepare(heir, signal);
    expect(
      await readFile(
        join(volumes.dataPathOf({ setId: heir.setId, restoreFrom: trashed?.volumeId }), "file"),
        "utf8",
      ),
    ).toBe("precious");
  });
});
