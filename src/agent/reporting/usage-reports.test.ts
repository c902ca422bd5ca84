import { expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import { silentLog } from "../../lib/log.ts";
import { UsageReports } from "./usage-reports.ts";

it("a host offers no bytes that its volumes use beyond their bookings", async () => {
  const amounts = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1_000, rootfsBytes: 1 };
  const measured = {
    used: { ...amounts, volumeBytes: 400 },
    allocatable: amounts,
    reclaimableVolumeBytes: 0,
    trashedVolumeBytes: 0,
    volumeReason: null,
  };
  const reports = (excessBytes: number) =>
    new UsageReports({
      machine: { measure: async () => measured },
      port: { memoryUsage: async () => ({}) },
      disk: () => undefined,
      volumeExcessBytes: () => excessBytes,
      hostReason: () => undefined,
      fault: () => undefined,
      clock: new VirtualClock(),
      log: silentLog,
      intervalMs: 1_000,
      onRepeat: () => undefined,
    });
  const offered = async (excessBytes: number) =>
    (await reports(excessBytes).takeIfDue())?.allocatable.volumeBytes;
  const report = await reports(300).takeIfDue();
  expect(report?.used.volumeBytes).toBe(100);
  expect(await offered(0)).toBe(1_000);
  expect(await offered(300)).toBe(700);
  expect(await offered(5_000)).toBe(0);
});

const none = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };

it("measures the machine with the number of sets, which its limits bound", async () => {
  const counts: number[] = [];
  const reports = new UsageReports({
    machine: {
      measure: async (seen) => {
        counts.push(seen);
        return {
          used: none,
          allocatable: none,
          reclaimableVolumeBytes: 0,
          trashedVolumeBytes: 0,
          volumeReason: null,
          setsMax: 480,
        };
      },
    },
    port: {
      memoryUsage: async () => ({
        set_one: 5,
        "0123456789ab": 2,
        "0123456789ac": 3,
        set_two: 1,
        "0123456789ad": 1,
      }),
    },
    disk: () => undefined,
    volumeExcessBytes: () => 0,
    hostReason: () => undefined,
    fault: () => undefined,
    clock: new VirtualClock(),
    log: silentLog,
    intervalMs: 1_000,
    onRepeat: () => undefined,
  });
  const usage = await reports.takeIfDue();
  // An API of an earlier release refuses unknown members of a usage report.
  expect(usage).not.toHaveProperty("setsMax");
  expect(reports.setsMax).toBe(480);
  expect(counts).toEqual([2]);
});
