import { afterAll, beforeAll, expect, it } from "vitest";
import type { BerthSet } from "../../src/contracts/api/sets.ts";
import type { Volume } from "../../src/contracts/api/volumes.ts";
import { getService, removeService, startService } from "../support/modern-host/host-service.ts";
import { requestBerth, runOnHost, tryOnHost } from "../support/modern-host/modern-host.ts";
import { waitUntil } from "../support/wait-until.ts";

const deadlineMs = 180_000;
let set: BerthSet;

beforeAll(async () => {
  // Not a multiple of 512, which LVM requires.
  set = await startService("volumes", { volume: { size: "500M", mountPath: "/data" } });
});

afterAll(async () => {
  await removeService("volumes");
});

it("udev creates the links of a set's volume, whose device has the size of the template", async () => {
  const { id, sizeBytes } = await getVolume("live");
  expect(sizeBytes).toBeGreaterThanOrEqual(500_000_000);
  const name = await findLogicalVolume(id);
  const links = await runOnHost(
    `readlink -f /dev/berth/${name} /dev/mapper/*${name.replaceAll("-", "--")} && ls /dev/disk/by-id`,
  );
  const [device, mapped, ...byId] = links.split("\n");
  expect(device).toMatch(/^\/dev\/dm-\d+$/);
  expect(mapped).toBe(device);
  expect(byId.join()).toContain(name.replaceAll("-", "--"));
  expect(await runOnHost("dmsetup udevcookies | tail -n +2")).toBe("");
});

it("a write beyond the size of a volume fails, and its data stays readable", async () => {
  const app = `docker exec berth-${set.id}-app`;
  await runOnHost(`${app} sh -c 'echo before >/data/text'`);
  const full = await tryOnHost(`${app} dd if=/dev/zero of=/data/full bs=1M count=600`);
  expect(full.exitCode).not.toBe(0);
  expect(full.output).toContain("No space left on device");
  expect(await runOnHost(`${app} sh -c 'rm /data/full && cat /data/text'`)).toBe("before");
});

it("a purge removes a trashed volume with its device and its links", async () => {
  const { id } = await getVolume("live");
  const name = await findLogicalVolume(id);
  await requestBerth("POST", "/v1/services/volumes/scale", { replicas: 0 });
  await waitUntil("the volume is trashed", async () => (await getVolume("trashed")).id === id, {
    deadlineMs,
  });
  expect(
    await runOnHost("findmnt --noheadings --output SOURCE | grep mapper/berth || true"),
  ).not.toContain(name.replaceAll("-", "--"));
  await requestBerth("POST", `/v1/volumes/${id}/purge`, { confirm: id });
  await waitUntil(
    "LVM has no such volume",
    async () => !(await runOnHost("lvs --noheadings --options lv_name berth")).includes(name),
    { deadlineMs },
  );
  expect(
    await runOnHost(`ls /dev/mapper /dev/disk/by-id /dev/berth 2>/dev/null || true`),
  ).not.toContain(name.replaceAll("-", "--"));
  await requestBerth("POST", "/v1/services/volumes/scale", { replicas: 1 });
  await waitUntil(
    "the service has a set again",
    async () => (await getService("volumes")).counts.ready === 1,
    { deadlineMs },
  );
});

async function getVolume(state: Volume["state"]): Promise<Volume> {
  return waitUntil(
    `the host reports a ${state} volume`,
    async () => {
      const { items } = await requestBerth<{ items: Volume[] }>(
        "GET",
        `/v1/volumes?state=${state}`,
      );
      return items.find(({ service }) => service === "volumes");
    },
    { deadlineMs },
  );
}

async function findLogicalVolume(volumeId: string): Promise<string> {
  const names = await runOnHost("lvs --noheadings --options lv_name,lv_tags berth");
  const line = names.split("\n").find((text) => text.includes(volumeId));
  return line?.trim().split(" ")[0] ?? "";
}
