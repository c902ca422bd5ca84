import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findTightest, type HostLimitsOptions, readHostLimits } from "./host-limits.ts";

let folder: string;
let options: HostLimitsOptions;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "berth-limits-"));
  options = {
    procRoot: path.join(folder, "proc"),
    sysRoot: path.join(folder, "sys"),
    cgroupRoot: path.join(folder, "cgroup"),
    dockerPidFile: path.join(folder, "docker.pid"),
  };
});

afterEach(() => rm(folder, { recursive: true }));

/** Makes the machine one with cgroup version 2. */
async function useCgroupVersion2(): Promise<void> {
  await write("cgroup/cgroup.controllers", "cpu memory pids\n");
}

async function write(file: string, text: string): Promise<void> {
  const target = path.join(folder, file);
  await mkdir(path.dirname(target), { recursive: true });
  await writeFile(target, text);
}

/** A default route, and the network of the bridge, 172.17.0.0/24. */
const routes = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
`;

function readSetsMax(): Record<string, number> {
  const limits = readHostLimits(options);
  return Object.fromEntries(limits.map(({ name, setsMax }) => [name, setsMax]));
}

it("derives the number of sets from each limit, and omits those that the machine lacks", async () => {
  await useCgroupVersion2();
  await write("proc/sys/fs/inotify/max_user_instances", "128\n");
  await write("proc/sys/kernel/pid_max", "32768\n");
  await write("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024\n");
  await write("proc/sys/net/netfilter/nf_conntrack_max", "garbage\n");
  expect(readSetsMax()).toEqual({
    "fs.inotify.max_user_instances": 29,
    "kernel.pid_max": 694,
    "net.ipv4.neigh.default.gc_thresh3": 480,
  });
  expect(findTightest(readHostLimits(options))).toMatchObject({
    name: "fs.inotify.max_user_instances",
    value: 128,
  });
});

it("counts the open files of dockerd, and what its bridge has", async () => {
  await write("docker.pid", "77");
  await write("proc/77/limits", "Max open files            1024                 524288    files\n");
  await mkdir(path.join(folder, "sys/class/net/docker0/brif/veth1"), { recursive: true });
  await mkdir(path.join(folder, "sys/class/net/docker0/brif/eth1"));
  await symlink("../../devices/virtual/net/veth1", path.join(folder, "sys/class/net/veth1"));
  await symlink("../../devices/pci0000:00/net/eth1", path.join(folder, "sys/class/net/eth1"));
  await write("proc/net/route", routes);
  expect(readSetsMax()).toEqual({
    "open files of dockerd": 34,
    "the ports of docker0": 1_022,
    "the addresses of docker0": 253,
  });
});

it("only limits whose excess fails the start of a container bound the sets", async () => {
  await useCgroupVersion2();
  await write("docker.pid", "77");
  await write("proc/77/limits", "Max open files            1024                 524288    files\n");
  await mkdir(path.join(folder, "sys/class/net/docker0/brif"), { recursive: true });
  for (const file of [
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/mount-max",
    "kernel/pid_max",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/netfilter/nf_conntrack_max",
  ])
    await write(`proc/sys/${file}`, "8192\n");
  await write("proc/net/route", routes);
  const limits = readHostLimits(options);
  expect(limits).toHaveLength(9);
  expect(limits.filter(({ isHard }) => isHard).map(({ name }) => name)).toEqual([
    "kernel.pid_max",
    "the ports of docker0",
    "the addresses of docker0",
  ]);
});

it("omits inotify instances with cgroup version 1, with which containers use none", async () => {
  await write("proc/sys/fs/inotify/max_user_instances", "128\n");
  expect(readSetsMax()).toEqual({});
  await useCgroupVersion2();
  expect(readSetsMax()).toEqual({ "fs.inotify.max_user_instances": 29 });
});

it("a limit that is too low for the machine itself admits no set", async () => {
  await write("proc/sys/kernel/pid_max", "1000\n");
  expect(readSetsMax()).toEqual({ "kernel.pid_max": 0 });
  expect(findTightest([])).toBeUndefined();
});

it("reads the limits of this machine", async () => {
  const names = readHostLimits().map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["kernel.pid_max", "fs.inotify.max_user_watches"]));
});
