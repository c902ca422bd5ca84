import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findImageFolder } from "./image-folder.ts";

let directory: string;
const at = (name: string) => path.join(directory, name);
const overlay2 = [["Backing Filesystem", "extfs"]];
const snapshotter = [["driver-type", "io.containerd.snapshotter.v1"]];
const find = (DriverStatus: string[][], socket?: string) =>
  findImageFolder(
    {
      DockerRootDir: at("docker"),
      DriverStatus,
      ...(socket === undefined ? {} : { Containerd: { Address: at(socket) } }),
    },
    { configPath: at("config.toml"), containerdRoot: at("containerd") },
  );
const addSnapshots = (folder: string) =>
  mkdir(path.join(folder, "io.containerd.snapshotter.v1.overlayfs"), { recursive: true });

beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "berth-image-folder-"));
  await addSnapshots(at("containerd"));
});
afterEach(() => rm(directory, { recursive: true }));

it("is Docker's folder with Docker's own store", async () => {
  expect(await find(overlay2)).toBe(at("docker"));
});

it("is containerd's folder with containerd's store", async () => {
  expect(await find(snapshotter)).toBe(at("containerd"));
});

it("is the folder in containerd's configuration, which is not that of a plugin", async () => {
  await addSnapshots(at("large"));
  await writeFile(at("config.toml"), `version = 2\nroot = "${at("large")}"\n`);
  expect(await find(snapshotter)).toBe(at("large"));
  await writeFile(at("config.toml"), `version = 2\n[plugins.x]\n  root = "${at("large")}"\n`);
  expect(await find(snapshotter)).toBe(at("containerd"));
});

it("is the folder of a containerd that Docker started", async () => {
  await addSnapshots(at("docker/containerd/daemon"));
  expect(await find(snapshotter)).toBe(at("docker/containerd/daemon"));
});

it("is the folder of the containerd that Docker reports", async () => {
  // Another containerd left this one.
  await addSnapshots(at("docker/containerd/daemon"));
  expect(await find(snapshotter, "run/containerd.sock")).toBe(at("containerd"));
  // Docker's own containerd has its configuration beside its socket.
  await addSnapshots(at("own"));
  await mkdir(at("exec"));
  await writeFile(at("exec/containerd.toml"), `root = "${at("own")}"\nversion = 2\n`);
  expect(await find(snapshotter, "exec/containerd.sock")).toBe(at("own"));
});

it("is Docker's folder if the agent cannot see containerd's", async () => {
  await rm(at("containerd"), { recursive: true });
  expect(await find(snapshotter)).toBe(at("docker"));
});
