import type { ReportedVolume } from "../../../src/contracts/api/volumes.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { assert } from "../../../src/lib/assert.ts";
import { type FleetContext, observed, serviceBody, smallHost } from "./fleet-context.ts";

const GiB = 2 ** 30;

/** Creates and places a service whose sets have a volume of a GiB. */
export async function createDb(f: FleetContext, replicas: number, name = "db"): Promise<void> {
  const { template, ...body } = serviceBody(name, { replicas });
  const volume = { sizeBytes: GiB, mountPath: "/data" };
  await createService(f.ctx, f.tenantId, { ...body, template: { ...template, volume } });
  await f.placer.placeSets();
}

/** The report of the volume of a set. */
export function volumeOf(setId: string, changes: Partial<ReportedVolume> = {}): ReportedVolume {
  return {
    volumeId: setId.replace("set_", "vol_"),
    setId,
    tenant: "food",
    service: "db",
    state: "live",
    sizeBytes: GiB,
    usedBytes: 4_096,
    trashedAt: null,
    expiresAt: null,
    reason: null,
    ...changes,
  };
}

export const trashed = {
  state: "trashed",
  usedBytes: null,
  trashedAt: "2026-01-01T00:00:00.000Z",
  expiresAt: "2999-01-08T00:00:00.000Z",
} as const;

/** The one set of the service runs, its service is deleted, and its volume is in the trash. */
export async function trashTheVolume(
  f: FleetContext,
  hostId: string,
  changes: Partial<ReportedVolume> = {},
): Promise<ReportedVolume> {
  const [set] = (await f.sync(hostId, { full: true })).sets;
  assert(set, "the host has a set to run");
  const report = {
    usage: {
      used: smallHost,
      allocatable: smallHost,
      reclaimableVolumeBytes: 0,
      trashedVolumeBytes: 0,
      volumeReason: null,
      disk: null,
      setMemoryBytes: {},
    },
  };
  const used = { ...smallHost, cpuMillis: 0, memoryBytes: 0, rootfsBytes: 0, volumeBytes: GiB };
  const allocatable = { ...smallHost, volumeBytes: 2 * GiB };
  const usage = { ...report.usage, used, allocatable };
  const live = volumeOf(set.setId);
  await f.sync(hostId, { observed: [observed(set, "running")], volumes: [live], usage });
  await deleteService(f.ctx, f.tenantId, "db", undefined);
  const [last] = (await f.sync(hostId, { full: true })).sets;
  assert(last?.desired === "deleted", "the set is to go");
  const trash = volumeOf(set.setId, { ...trashed, ...changes });
  await f.sync(hostId, { observed: [observed(last, "absent")], volumes: [trash], usage });
  return trash;
}
