import { expect, it } from "vitest";
import { VOLUMES_PER_HOST_MAX } from "../../contracts/agent-protocol/protocol.ts";
import { syncBody } from "../../contracts/agent-protocol/sync.ts";
import type { ReportedVolume } from "../../contracts/api/volumes.ts";
import { newId } from "../../lib/ids.ts";
import { reportableVolumes } from "./reportable.ts";

function createVolume(): ReportedVolume {
  return {
    volumeId: newId("vol"),
    setId: newId("set"),
    tenant: "default",
    service: "db",
    state: "live",
    sizeBytes: 2 ** 30,
    usedBytes: null,
    trashedAt: null,
    expiresAt: null,
    reason: null,
  };
}

it("a volume that the API would refuse stays in the report with its id only", () => {
  const [sound, broken] = [createVolume(), { ...createVolume(), tenant: "Not a name" }];
  const unreadable = { volumeId: newId("vol") };
  const report = reportableVolumes([broken, sound, unreadable, { volumeId: "vol_old" }]);
  expect(report).toEqual([{ volumeId: broken.volumeId }, sound, unreadable, null]);
  expect(syncBody.shape.volumes.parse(report)).toEqual(report);
});

it("a report of too many volumes has a null entry, because it is not complete", () => {
  const volumes = Array.from({ length: VOLUMES_PER_HOST_MAX }, createVolume);
  expect(reportableVolumes(volumes)).toEqual(volumes);
  const cut = reportableVolumes([...volumes, createVolume()]);
  expect(cut).toEqual([...volumes.slice(0, -1), null]);
  expect(syncBody.shape.volumes.parse(cut)).toHaveLength(VOLUMES_PER_HOST_MAX);
});
