import { expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { localSet } from "../../../test/support/agent/local-set.ts";
import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";
import { silentLog } from "../../lib/log.ts";
import type { LocalVolume, VolumePort } from "../ports/volume-port.ts";
import { VolumeGc } from "./volume-gc.ts";

const MiB = 2 ** 20;

it("the bytes of live volumes beyond their templates are not offered for placement", async () => {
  const clock = new VirtualClock();
  const newSet = (size: string, desired: "running" | "deleted" = "running") => ({
    ...localSet({ template: { volume: { size, mountPath: "/data" } } }),
    desired,
  });
  const [rounded, exact, deleted] = [newSet("50M"), newSet("64Mi"), newSet("50M", "deleted")];
  const toVolume = ({ setId }: { setId: string }, sizeBytes: number): LocalVolume => ({
    volumeId: setId.replace("set_", "vol_"),
    setId,
    tenant: "default",
    service: "db",
    state: "live",
    sizeBytes,
    usedBytes: 0,
    trashedAtMs: undefined,
    expiresAtMs: undefined,
  });
  const volumes = [
    toVolume(rounded, 48 * MiB),
    toVolume(exact, 64 * MiB),
    toVolume(deleted, 96 * MiB),
  ];
  const otherHosts = [{ hostId: "host_0000000000000000000000000A", volumes: 2 }];
  const port = {
    listAll: async () => ({ volumes, unreadable: [], otherHosts }),
    updateRetention: () => undefined,
  } as Partial<VolumePort> as VolumePort;
  const options = { port, clock, log: silentLog, intervalMs: 1_000, onChange: () => undefined };
  const gc = new VolumeGc(options);
  const stopping = new AbortController();
  const ran = gc.run(stopping.signal);
  await clock.pass(10);
  expect(gc.excessBytes).toBe(0);
  expect(gc.otherHosts).toEqual(otherHosts);
  const time = "2026-01-01T00:00:00.000Z";
  const answer = { databaseTime: time, serverTime: time, purgeVolumes: [] as string[] };
  gc.updateRetention(answer as unknown as SyncResult, [rounded, exact, deleted]);
  expect(gc.excessBytes).toBe(48 * MiB - 50_000_000);
  stopping.abort();
  await ran;
});
