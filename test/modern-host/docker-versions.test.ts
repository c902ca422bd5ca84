import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Host } from "../../src/contracts/api/hosts.ts";
import {
  getSet,
  importBaseImage,
  readSliceLimits,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { replaceAgent, requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const MiB = 2 ** 20;
const diskBytes = 320 * MiB;
const fetched = fileURLToPath(new URL("../../.berth", import.meta.url));
const name = "versions";
const limits = { cpu: 0.2, io: { writeBytesPerSecond: "1Mi" } };

beforeAll(async () => {
  // The programs of the fetched Docker expect their libraries at the path of the machine.
  await runOnHost(`set -e
    mkdir -p ${path.dirname(fetched)} /images
    ln -sfn /machine${fetched} ${fetched}
    lvcreate -q -y -L ${diskBytes}b -n images berth
    mkfs.ext4 -q /dev/berth/images
    mount /dev/berth/images /images`);
});

afterAll(async () => {
  if (await getSet(name)) await removeService(name);
  await startDocker("");
  await runOnHost("umount /images && lvremove -q -y berth/images");
});

/**
 * Starts Docker with other folders, and the image store of containerd, which is on the disk at
 * /images. An empty version restores the host's own Docker.
 */
async function startDocker(version: "26" | "28" | ""): Promise<void> {
  const programs = version === "26" ? `${fetched}/docker-26/bin` : "/usr/sbin:/usr/bin";
  const find = (program: string) =>
    version === "26" ? `${programs}/${program}` : `$(command -v ${program})`;
  const configure = `
    cat >/etc/docker/daemon.json <<'JSON'
{"iptables":false,"ip6tables":false,"data-root":"/var/lib/docker-${version}","features":{"containerd-snapshotter":true}}
JSON
    mkdir -p /images/${version} /etc/containerd
    printf 'version = 2\\nroot = "/images/${version}"\\n' >/etc/containerd/config.toml
    for unit in docker containerd; do
      mkdir -p /run/systemd/system/$unit.service.d
      printf '[Service]\\nEnvironment=PATH=%s:/usr/sbin:/usr/bin:/sbin:/bin\\nExecStart=\\n' ${programs} >/run/systemd/system/$unit.service.d/version.conf
    done
    echo "ExecStart=${find("dockerd")} -H fd:// --containerd=/run/containerd/containerd.sock" >>/run/systemd/system/docker.service.d/version.conf
    echo "ExecStart=${find("containerd")}" >>/run/systemd/system/containerd.service.d/version.conf`;
  const restore = `
    echo '{"iptables":false,"ip6tables":false}' >/etc/docker/daemon.json
    rm -rf /run/systemd/system/{docker,containerd}.service.d /etc/containerd/config.toml`;
  await runOnHost(`set -e
    systemctl stop docker.socket docker containerd
    ${version === "" ? restore : configure}
    systemctl daemon-reload
    systemctl reset-failed docker.service docker.socket
    systemctl start docker
    ${importBaseImage}`);
}

it.each(["28", "26"] as const)(
  "Docker %s with containerd's store: sets run, on the disk of the images and with its I/O limits",
  async (version) => {
    await startDocker(version);
    await replaceAgent("systemctl restart berth-host-agent");
    const set = (await getSet(name)) ? await waitReady(name) : await startService(name, limits);
    const host = await waitUntil(
      `the host reports Docker ${version}`,
      async () => {
        const { items } = await requestBerth<{ items: Host[] }>("GET", "/v1/hosts");
        return items.find((item) => item.capabilities?.docker?.version.startsWith(version));
      },
      { deadlineMs: 120_000, everyMs: 500 },
    );
    expect(host.capabilities?.docker?.imageStore).toBe("containerd overlayfs");
    expect(host.allocatable.rootfsBytes).toBeLessThanOrEqual(diskBytes);
    const devices = await runOnHost(
      "cat /sys/class/block/ubda/dev; lsblk -no MAJ:MIN /dev/berth/images",
    );
    const { cpuMax, memoryMax, ioMax } = await readSliceLimits(set.id);
    expect({ cpuMax, memoryMax }).toEqual({ cpuMax: "20000 100000", memoryMax: String(64 * MiB) });
    for (const device of devices.split("\n"))
      expect(ioMax).toContain(`${device.trim()} rbps=max wbps=${MiB} `);
  },
);
