import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Lease } from "../../control/runtime/leases.ts";
import { silentLog } from "../../lib/log.ts";
import { holdLease } from "./hold-lease.ts";

const LEASE_MS = 6_000;
const RENEWAL_MS = 2_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function hold(
  renew: Lease["renew"],
  claimedAtMs = performance.now(),
  release: Lease["release"] = async () => undefined,
) {
  const lease = { renew, release };
  const stopping = new AbortController();
  return holdLease(lease, {
    leaseMs: LEASE_MS,
    claimedAtMs,
    stopping: stopping.signal,
    log: silentLog,
  });
}
const noAnswer = () => new Promise<boolean>(() => undefined);

describe("a held lease", () => {
  it("aborts as soon as a renewal says that another process holds the lease", async () => {
    const held = hold(async () => false);
    await vi.advanceTimersByTimeAsync(RENEWAL_MS);
    expect(held.signal.aborted).toBe(true);
  });

  it("aborts when the lease expires, and not at the next renewal", async () => {
    const held = hold(noAnswer, performance.now() - 1_500);
    await vi.advanceTimersByTimeAsync(4_499);
    expect(held.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(held.signal.aborted).toBe(true);
  });

  it("renews the lease again while the previous renewal has no answer", async () => {
    let renewals = 0;
    const held = hold(() => (renewals++ === 0 ? noAnswer() : Promise.resolve(true)));
    await vi.advanceTimersByTimeAsync(10 * LEASE_MS);
    expect(held.signal.aborted).toBe(false);
    await held.release();
  });

  it("leaves no timer when it is released, even if a renewal is answered later", async () => {
    let answer: (isRenewed: boolean) => void = () => undefined;
    const held = hold(() => new Promise<boolean>((resolve) => (answer = resolve)));
    await vi.advanceTimersByTimeAsync(RENEWAL_MS);
    await held.release();
    answer(true);
    await vi.advanceTimersByTimeAsync(0);
    expect(vi.getTimerCount()).toBe(0);
    expect(held.signal.aborted).toBe(false);
  });

  it.each([
    ["releases the lease before it expires", 5_999, 1],
    ["does not release the lease after it has expired", 6_000, 0],
  ])("%s", async (_title, afterMs, times) => {
    let releases = 0;
    const held = hold(noAnswer, performance.now(), async () => void releases++);
    await vi.advanceTimersByTimeAsync(afterMs);
    await held.release();
    expect(releases).toBe(times);
  });

  it("does not release a lease that another process has claimed", async () => {
    let releases = 0;
    const held = hold(
      async () => false,
      performance.now(),
      async () => void releases++,
    );
    await vi.advanceTimersByTimeAsync(RENEWAL_MS);
    await held.release();
    expect(releases).toBe(0);
  });
});
