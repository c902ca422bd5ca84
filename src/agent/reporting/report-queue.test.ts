import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../../test/support/agent/virtual-clock.ts";
import type { ObservedSet } from "../../contracts/agent-protocol/observed-set.ts";
import { ReportQueue } from "./report-queue.ts";

function reportOf(setId: string, state: ObservedSet["state"]): ObservedSet {
  return {
    setId,
    generation: 1,
    state,
    ready: false,
    reason: null,
    gaveUp: false,
    address: null,
    sized: true,
    sizeRefused: false,
    containers: [],
  };
}

const charsMax = 100_000;

function states(queue: ReportQueue): string[] {
  return queue.take(100, charsMax).reports.map(({ setId, state }) => `${setId} ${state}`);
}

/** A queue that is older than any call in flight. */
async function oldQueue() {
  const clock = new VirtualClock();
  const queue = new ReportQueue(clock);
  await clock.pass(100_000);
  return { clock, queue };
}

describe("the queue of reports", () => {
  it("has the latest report of each set until it is acknowledged", async () => {
    const { queue } = await oldQueue();
    queue.put(reportOf("a", "preparing"));
    queue.put(reportOf("b", "preparing"));
    queue.put(reportOf("a", "running"));
    expect(states(queue)).toEqual(["a running", "b preparing"]);
    const batch = queue.take(1, charsMax);
    queue.acknowledge(batch);
    expect(states(queue)).toEqual(["b preparing"]);
    queue.acknowledge(queue.take(100, charsMax));
    expect(queue.isEmpty).toBe(true);
  });

  it("retains a report that changed after its batch was taken", async () => {
    const { queue } = await oldQueue();
    queue.put(reportOf("a", "preparing"));
    const batch = queue.take(100, charsMax);
    queue.put(reportOf("a", "running"));
    queue.acknowledge(batch);
    expect(states(queue)).toEqual(["a running"]);
  });

  it("accepts an equal report once more after a forced resend", async () => {
    const { queue } = await oldQueue();
    queue.put(reportOf("a", "running"));
    queue.acknowledge(queue.take(100, charsMax));
    queue.forceResend("a");
    expect(queue.isEmpty).toBe(true);
    expect(queue.put(reportOf("a", "running"))).toBe(true);
    expect(states(queue)).toEqual(["a running"]);
  });

  it("drops a report that equals the last one, even after its acknowledgment", async () => {
    const { queue } = await oldQueue();
    expect(queue.put(reportOf("a", "running"))).toBe(true);
    queue.acknowledge(queue.take(100, charsMax));
    expect(queue.put(reportOf("a", "running"))).toBe(false);
    expect(queue.isEmpty).toBe(true);
  });

  it("resends an unconfirmed report once its lost call can no longer arrive", async () => {
    const { queue, clock } = await oldQueue();
    queue.put(reportOf("a", "preparing"));
    queue.markUnconfirmed(queue.take(100, charsMax));
    queue.put(reportOf("a", "running"));
    queue.acknowledge(queue.take(100, charsMax));
    queue.resendUnconfirmed();
    expect(queue.isEmpty).toBe(true);
    await clock.pass(40_000);
    queue.resendUnconfirmed();
    expect(states(queue)).toEqual(["a running"]);
    queue.acknowledge(queue.take(100, charsMax));
    queue.resendUnconfirmed();
    expect(queue.isEmpty).toBe(true);
  });

  it("resends its first reports, because reports of the previous agent may arrive late", async () => {
    const clock = new VirtualClock();
    const queue = new ReportQueue(clock);
    queue.put(reportOf("a", "running"));
    queue.acknowledge(queue.take(100, charsMax));
    await clock.pass(40_000);
    queue.resendUnconfirmed();
    expect(states(queue)).toEqual(["a running"]);
  });

  it("drops the reports of a forgotten set", async () => {
    const { queue, clock } = await oldQueue();
    queue.put(reportOf("a", "absent"));
    queue.markUnconfirmed(queue.take(100, charsMax));
    queue.forget("a");
    await clock.pass(60_000);
    queue.resendUnconfirmed();
    expect(queue.isEmpty).toBe(true);
  });

  it("returns at most the allowed characters, but at least one report", async () => {
    const { queue } = await oldQueue();
    for (const setId of ["a", "b", "c"]) queue.put(reportOf(setId, "running"));
    const chars = JSON.stringify(reportOf("a", "running")).length;
    expect(queue.take(100, 2 * chars).reports).toHaveLength(2);
    expect(queue.take(100, 2 * chars - 1).reports).toHaveLength(1);
    expect(queue.take(100, 1).reports).toHaveLength(1);
    queue.acknowledge(queue.take(100, 2 * chars));
    expect(states(queue)).toEqual(["c running"]);
  });
});
