import { afterEach, expect, it } from "vitest";
import {
  getSet,
  readContainerLimits,
  readSliceLimits,
  removeService,
  startService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import { requestBerth, runOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const MIB = 2 ** 20;
/** The host has one CPU, and tests of other files may have left little of it. */
const small = { cpu: 0.2 };

/** The name of the test's service. A deleted service still uses its name for a while. */
let service: string;

afterEach(async () => {
  if (await getSet(service)) await removeService(service);
});

it("slices are transient, without default dependencies, and they leave no settings", async () => {
  service = "transient";
  const set = await startService(service, small);
  const slices = await runOnHost(
    `systemctl list-units --type=slice --plain --no-legend 'berth*' | cut -d' ' -f1`,
  );
  const names = slices.split("\n");
  expect(names).toContain("berth.slice");
  expect(names.some((name) => name.endsWith(`-${set.id}.slice`))).toBe(true);
  for (const name of names) {
    const shown = await runOnHost(`systemctl show -p Transient,DefaultDependencies '${name}'`);
    expect(shown.split("\n").sort(), name).toEqual(["DefaultDependencies=no", "Transient=yes"]);
  }
  await removeService(service);
  expect(await runOnHost(`find /run/systemd -name '*${set.id}*'`)).toBe("");
});

it("a reload of systemd changes no limit, not even those of a resize", async () => {
  service = "reloaded";
  const set = await startService(service, small);
  const readAll = async () => [
    await readSliceLimits(set.id),
    await readContainerLimits(set.id, "app"),
  ];
  await runOnHost("systemctl daemon-reload");
  expect(await readSliceLimits(set.id)).toMatchObject({ memoryMax: String(64 * MIB) });
  await requestBerth("POST", `/v1/services/${service}/resize`, { cpu: 0.3, memory: "96Mi" });
  await waitReady(service);
  const resized = await readAll();
  expect(resized[0]).toMatchObject({ cpuMax: "30000 100000", memoryMax: String(96 * MIB) });
  await runOnHost("systemctl daemon-reload");
  expect(await readAll()).toEqual(resized);
  await runOnHost("systemctl daemon-reexec");
  expect(await readAll()).toEqual(resized);
});

it("I/O limits apply to the logical volume and not to the disk below it", async () => {
  service = "limited";
  const set = await startService(service, {
    ...small,
    io: { writeBytesPerSecond: "1Mi" },
    volume: { size: "32Mi", mountPath: "/data" },
  });
  const volume = await runOnHost(
    `cat /sys/dev/block/"$(findmnt -nro MAJ:MIN --target "$(docker inspect -f '{{(index .Mounts 0).Source}}' berth-${set.id}-app)")"/dev`,
  );
  const { ioMax } = await readSliceLimits(set.id);
  expect(ioMax).toContain(`${volume} rbps=max wbps=${MIB} riops=max wiops=max`);
  expect(ioMax).not.toContain((await runOnHost("cat /sys/class/block/ubdb/dev")) + " ");
  await runOnHost("systemctl daemon-reload");
  const startedAtMs = performance.now();
  await runOnHost(
    `docker exec berth-${set.id}-app dd if=/dev/zero of=/data/file bs=1M count=8 conv=fsync`,
  );
  expect(performance.now() - startedAtMs).toBeGreaterThan(6_000);
});

it("a slice that a previous agent has started gets the limits, and its I/O settings are removed", async () => {
  service = "previous";
  const set = await startService(service, {
    ...small,
    io: { writeBytesPerSecond: "1Mi" },
    volume: { size: "32Mi", mountPath: "/data" },
  });
  const slice = await runOnHost(
    `basename "$(find /sys/fs/cgroup/berth.slice -name '*${set.id}.slice')"`,
  );
  await runOnHost(`set -e
    systemctl stop berth-host-agent
    docker stop -t 0 berth-${set.id}-app berth-${set.id}-infra
    systemctl stop ${slice}
    systemctl start ${slice}
    systemctl set-property --runtime ${slice} MemoryMax=16M CPUQuota=10% "IOWriteBandwidthMax=/dev/ubdb 2M"
    systemctl start berth-host-agent`);
  await waitUntil(
    "the containers run again",
    async () =>
      (await runOnHost(`docker ps -q --filter label=berth.set=${set.id} | wc -l`)) === "2",
    { deadlineMs: 120_000, everyMs: 500 },
  );
  await waitReady(service);
  const limits = await readSliceLimits(set.id);
  expect(limits).toMatchObject({ cpuMax: "20000 100000", memoryMax: String(64 * MIB) });
  expect(limits.ioMax).toContain(`wbps=${MIB} `);
  expect(limits.ioMax).not.toContain(`wbps=${2 * 1_000_000} `);
  await runOnHost("systemctl daemon-reload");
  expect(await readSliceLimits(set.id)).toEqual(limits);
  await removeService(service);
  expect(await runOnHost(`find /run/systemd -name '*${set.id}*'`)).toBe("");
});
