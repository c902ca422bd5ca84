import { describe, expect, it } from "vitest";
import { VirtualClock } from "../../test/support/agent/virtual-clock.ts";
import type { ObservedSet } from "../contracts/agent-protocol/protocol.ts";
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

/** One that has been at work for long. */
async function oldQueue() {
  const clock = new VirtualClock();
  const queue = new ReportQueue(clock);
  await clock.pass(100_000);
  return { clock, queue };
}

describe("the queue of reports", () => {
  it("holds the latest of each set, and says it again until it has arrived", async () => {
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

  it("keeps what has changed since the batch was taken", async () => {
    const { queue } = await oldQueue();
    queue.put(reportOf("a", "preparing"));
    const batch = queue.take(100, charsMax);
    queue.put(reportOf("a", "running"));
    queue.acknowledge(batch);
    expect(states(queue)).toEqual(["a running"]);
  });

  it("takes what was said last once more when it is asked for again", async () => {
    const { queue } = await oldQueue();
    queue.put(reportOf("a", "running"));
    queue.acknowledge(queue.take(100, charsMax));
    queue.expectAgain("a");
    expect(queue.isEmpty).toBe(true);
    expect(queue.put(reportOf("a", "running"))).toBe(true);
    expect(states(queue)).toEqual(["a running"]);
  });

  it("takes nothing that says what was said last, also when it has arrived", async () => {
    const { queue } = await oldQueue();
    expect(queue.put(reportOf("a", "running"))).toBe(true);
    queue.acknowledge(queue.take(100, charsMax));
    expect(queue.put(reportOf("a", "running"))).toBe(false);
    expect(queue.isEmpty).toBe(true);
  });

  it("repeats what was in doubt, once no lost call can be under way any more", async () => {
    const { queue, clock } = await oldQueue();
    queue.put(reportOf("a", "preparing"));
    queue.doubt(queue.take(100, charsMax));
    queue.put(reportOf("a", "running"));
    queue.acknowledge(queue.take(100, charsMax));
    queue.repeatDoubtful();
    expect(queue.isEmpty).toBe(true);
    await clock.pass(40_000);
    queue.repeatDoubtful();
    expect(states(queue)).toEqual(["a running"]);
    queue.acknowledge(queue.take(100, charsMax));
    queue.repeatDoubtful();
    expect(queue.isEmpty).toBe(true);
  });

  it("repeats what is first said, for the reports of the agent before may come after", async () => {
    const clock = new VirtualClock();
    const queue = new ReportQueue(clock);
    queue.put(reportOf("a", "running"));
    queue.acknowledge(queue.take(100, charsMax));
    await clock.pass(40_000);
    queue.repeatDoubtful();
    expect(states(queue)).toEqual(["a running"]);
  });

  it("forgets what is nobody's any more", async () => {
    const { queue, clock } = await oldQueue();
    queue.put(reportOf("a", "absent"));
    queue.doubt(queue.take(100, charsMax));
    queue.forget("a");
    await clock.pass(60_000);
    queue.repeatDoubtful();
    expect(queue.isEmpty).toBe(true);
  });

  it("takes no more than may be sent at once, and never nothing", async () => {
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
