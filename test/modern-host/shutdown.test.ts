import { afterAll, beforeAll, expect, inject, it } from "vitest";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import {
  baseImage,
  listRuns,
  removeService,
  waitReady,
} from "../support/modern-host/host-service.ts";
import {
  BOOT_DEADLINE_MS,
  requestBerth,
  runOnHost,
  shutDown,
  tryOnHost,
  waitForBoot,
} from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const service = "shutdown";
let set: BerthSet;

/** Writes that a container gets SIGTERM and that it ends, and how many networks it has then. */
function recordingScript(name: string): string {
  return `note() {
    echo "${name} $1 $(/bin/busybox grep -c eth0: /proc/net/dev)" >>/data/stops
  }
  trap 'note term; /bin/busybox sleep 1.5; note end; exit 0' TERM
  while :; do /bin/busybox sleep 1 & wait $!; done`;
}

beforeAll(async () => {
  await requestBerth("POST", "/v1/services", {
    name: service,
    replicas: 1,
    template: {
      cpu: 0.6,
      memory: "64Mi",
      rootfs: "16Mi",
      volume: { size: "32Mi", mountPath: "/data" },
      containers: ["database", "proxy"].map((name, index) => ({
        index,
        name,
        image: baseImage,
        options: {
          cpu: 50,
          memory: 50,
          command: ["/bin/sh", "-c", recordingScript(name)],
          stopTimeoutSeconds: 20,
        },
      })),
    },
  });
  set = await waitReady(service);
});

afterAll(() => removeService(service));

async function countRunning(): Promise<string> {
  return runOnHost(`docker ps -q --filter label=berth.set=${set.id} | wc -l`);
}

it.each([1, 2])(
  "a shutdown stops each set in order, with its network until the end (run %i)",
  async () => {
    const bootId = await runOnHost(
      `docker exec berth-${set.id}-database sh -c ': >/data/stops'
       cat /proc/sys/kernel/random/boot_id`,
    );
    await shutDown();
    await waitForBoot(inject("modernHost").folder, bootId);
    await waitUntil("the set runs again", async () => (await countRunning()) === "3", {
      deadlineMs: BOOT_DEADLINE_MS,
      everyMs: 500,
    });

    const stops = (await runOnHost(`docker exec berth-${set.id}-database cat /data/stops`)).split(
      "\n",
    );
    expect(stops).toEqual(["proxy term 1", "proxy end 1", "database term 1", "database end 1"]);
    const log = await runOnHost("journalctl --boot=-1 --output=cat --unit=berth-stop-sets");
    expect(log).toContain('"sets":1,"late":0');
  },
);

it("the unit that stops all sets reads a file of its own after that of the agent", async () => {
  const files = await runOnHost(
    "systemctl show --property=EnvironmentFiles --value berth-stop-sets",
  );
  expect(files.split("\n")).toEqual([
    "/etc/berth/host-agent.env (ignore_errors=no)",
    "/etc/berth/stop-sets.env (ignore_errors=yes)",
  ]);
});

it("a shutdown does not stop the slices of the sets", async () => {
  const conflicts = await runOnHost(
    `for slice in $(systemctl list-units --type=slice --plain --no-legend 'berth*' | cut -d' ' -f1); do
      systemctl show --property=Conflicts --value "$slice"; done | sort -u`,
  );
  expect(conflicts).toBe("");
});

it("at the deadline the remaining containers have a second each, in the same order", async () => {
  await runOnHost(`docker exec berth-${set.id}-database sh -c ': >/data/stops'`);
  const output = await runOnHost(
    `systemctl stop berth-host-agent
    set -a; . /etc/berth/host-agent.env
    BERTH_SETS_STOP_TIMEOUT_MS=1000 node /opt/berth/dist/main/stop-sets.js
    docker ps -q --filter label=berth.set=${set.id}
    systemctl start berth-host-agent`,
  );
  expect(output).toContain('"sets":1,"late":1');
  expect(output.split("\n").at(-1)).toContain("stopped all sets");
  await waitUntil("the set runs again", async () => (await countRunning()) === "3", {
    deadlineMs: BOOT_DEADLINE_MS,
    everyMs: 500,
  });
  const stops = await runOnHost(`docker exec berth-${set.id}-database cat /data/stops`);
  const events = stops.split("\n");
  expect(events).toContain("proxy term 1");
  expect(events.indexOf("database term 1")).toBe(events.length - 1);
});

it("no one but a shutdown can stop the unit that stops all sets", async () => {
  const before = await listRuns();
  expect(before).toHaveLength(3);
  const { exitCode, output } = await tryOnHost("systemctl stop berth-stop-sets 2>&1");
  expect([exitCode, output]).toEqual([4, expect.stringContaining("Operation refused")]);
  await runOnHost("systemctl daemon-reload; systemctl restart berth-host-agent");
  expect(await listRuns()).toEqual(before);
  expect(await runOnHost("systemctl is-active berth-stop-sets")).toBe("active");
});
