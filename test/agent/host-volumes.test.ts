import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadAgentSettings } from "../../src/config/host-agent.ts";
import { newId } from "../../src/lib/ids.ts";
import { silentLog } from "../../src/lib/log.ts";
import { openHostVolumes } from "../../src/main/compose/host-volumes.ts";

const run = promisify(execFile);
const { signal } = new AbortController();
let base: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "berth-host-volumes-"));
});
afterEach(async () => {
  for (const name of await readdir(join(base, "real", "volumes")).catch(() => []))
    await run("umount", [join(base, "real", "volumes", name)]).catch(() => undefined);
  await run("chattr", ["-R", "-i", base]).catch(() => undefined);
  await rm(base, { recursive: true, force: true });
});

it("volumes work in a data directory behind a symbolic link", async () => {
  await mkdir(join(base, "real"));
  await symlink(join(base, "real"), join(base, "link"));
  const settings = loadAgentSettings({ BERTH_AGENT_DATA_DIR: join(base, "link") });
  const hostId = newId("host");
  const volumes = (await openHostVolumes(settings, { hostId, log: silentLog }))?.port;
  if (!volumes) throw new Error("the host has volumes");
  const setId = newId("set");
  const of = { tenant: "default", service: "db", generation: 1 };
  const spec = { setId, ...of, sizeBytes: 32 * 2 ** 20 };
  await volumes.ensure(spec, signal);
  await volumes.ensure(spec, signal);
  expect(await volumes.list(signal)).toMatchObject([{ usedBytes: expect.any(Number) }]);
  await volumes.trash(setId, signal);
  // An empty mount point does not stop an operator who deletes the folder.
  await rm(join(base, "real", "volumes"), { recursive: true });
  const { stdout } = await run("losetup", ["--list", "--noheadings", "--output", "BACK-FILE"]);
  expect(stdout).not.toContain(base);
});

describe("a disk for images that is not mounted after a boot", () => {
  const of = { tenant: "default", service: "db", generation: 1, sizeBytes: 32 * 2 ** 20 };
  const open = async (hostId: string) => {
    const settings = loadAgentSettings({ BERTH_AGENT_DATA_DIR: join(base, "real") });
    const volumes = (await openHostVolumes(settings, { hostId, log: silentLog }))?.port;
    if (!volumes) throw new Error("the host has volumes");
    return volumes;
  };
  const images = () => join(base, "real", "volume-images");
  const mountDisk = () => run("mount", ["--bind", join(base, "disk"), images()]);
  const unmountDisk = async () => {
    for (const name of await readdir(join(base, "real", "volumes")))
      await run("umount", [join(base, "real", "volumes", name)]).catch(() => undefined);
    const { stdout } = await run("losetup", [
      "--list",
      "--noheadings",
      "--output",
      "NAME,BACK-FILE",
    ]);
    for (const line of stdout.split("\n")) {
      const [device = "", image] = line.trim().split(/\s+/);
      if (image?.startsWith(base)) await run("losetup", ["--detach", device]);
    }
    await run("umount", [images()]);
  };

  /** Creates a live and a trashed volume, and boots the host without its disk. */
  const bootWithoutDisk = async () => {
    await mkdir(join(base, "disk"));
    await mkdir(images(), { recursive: true });
    await mountDisk();
    const hostId = newId("host");
    const volumes = await open(hostId);
    const setIds = [newId("set"), newId("set")];
    for (const setId of setIds) await volumes.ensure({ ...of, setId }, signal);
    await volumes.trash(setIds[1] ?? "", signal);
    await unmountDisk();
    return { hostId, setId: setIds[0] ?? "" };
  };
  afterEach(() => run("umount", [images()]).catch(() => undefined));

  const missing = { code: "volume-missing", message: expect.stringContaining("is not mounted") };

  it("loses no volume, and creates none on another disk", async () => {
    const { hostId, setId } = await bootWithoutDisk();
    const volumes = await open(hostId);
    await expect(volumes.listAll(signal)).rejects.toMatchObject(missing);
    await expect(volumes.capacity(signal)).rejects.toMatchObject(missing);
    await expect(volumes.trash(setId, signal)).rejects.toMatchObject(missing);
    const other = { ...of, setId: newId("set") };
    await expect(volumes.ensure(other, signal)).rejects.toMatchObject(missing);
    expect((await readdir(images())).filter((name) => name.startsWith("vol_"))).toEqual([]);
    await mountDisk();
    const states = (await (await open(hostId)).list(signal)).map(({ state }) => state);
    expect(states.sort()).toEqual(["live", "trashed"]);
    await unmountDisk();
  });

  it("is also noticed by the first agent that binds the folder", async () => {
    const { hostId, setId } = await bootWithoutDisk();
    // An agent of an earlier release left neither file.
    await rm(join(base, "real", "volume-images.id"));
    await rm(join(base, "disk", ".berth-id"));
    const volumes = await open(hostId);
    await expect(volumes.trash(setId, signal)).rejects.toMatchObject(missing);
    await expect(volumes.capacity(signal)).rejects.toMatchObject(missing);
    await mountDisk();
    expect(await volumes.list(signal)).toHaveLength(2);
    expect(await readdir(join(base, "disk"))).toContain(".berth-id");
    await unmountDisk();
    await expect(volumes.capacity(signal)).rejects.toMatchObject(missing);
  });

  it("may be mounted after the first run of the agent", async () => {
    await mkdir(join(base, "disk"));
    const hostId = newId("host");
    const volumes = await open(hostId);
    await volumes.capacity(signal);
    expect(await volumes.list(signal)).toEqual([]);
    await mountDisk();
    await volumes.capacity(signal);
    await volumes.ensure({ ...of, setId: newId("set") }, signal);
    await unmountDisk();
    await expect((await open(hostId)).list(signal)).rejects.toMatchObject(missing);
  });

  it("is adopted without its mark if it has volumes of the host, and named otherwise", async () => {
    const { hostId } = await bootWithoutDisk();
    await rm(join(base, "disk", ".berth-id"));
    const expected = (await readFile(join(base, "real", "volume-images.id"), "utf8")).trim();
    const volumes = await open(hostId);
    const message = expect.stringContaining(`${expected} is not mounted`);
    await expect(volumes.list(signal)).rejects.toMatchObject({ ...missing, message });
    await mountDisk();
    expect(await volumes.list(signal)).toHaveLength(2);
    expect(await readFile(join(base, "disk", ".berth-id"), "utf8")).toBe(`${expected}\n`);
    await writeFile(join(base, "disk", ".berth-id"), "another\n");
    const other = expect.stringContaining("The disk there has the id another.");
    await expect(volumes.list(signal)).rejects.toMatchObject({ ...missing, message: other });
    await unmountDisk();
  });
});
