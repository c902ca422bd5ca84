import { expect, it } from "vitest";
import type { Signals } from "../../src/control/runtime/context.ts";

/** Two processes' ends of the same signals; for an adapter that lives in one process both are the same. */
export interface SignalsUnderTest {
  here: Signals;
  there: Signals;
}

const longMs = 60_000;
/** A wait that nothing ends takes `longMs`. One that a signal ends takes far less, even on a busy machine. */
const wokenMs = longMs / 2;

/** What every implementation of Signals guarantees. */
export function describeSignals(under: () => SignalsUnderTest): void {
  const waitMs = async (work: Promise<unknown>): Promise<number> => {
    const startedAtMs = performance.now();
    await work;
    return performance.now() - startedAtMs;
  };

  it("a signal wakes whoever waits for its channel, in this process and in another", async () => {
    const { here, there } = under();
    const waits = [here, there].map((signals) => waitMs(signals.waitFor("service:svc_a", longMs)));
    await here.publish(["set:set_x", "service:svc_a"]);
    for (const ms of await Promise.all(waits)) expect(ms).toBeLessThan(wokenMs);
  });

  it("a wait says whether it was a signal that ended it", async () => {
    const { here, there } = under();
    const signalled = there.waitFor("host:host_d", longMs);
    await here.publish(["host:host_d"]);
    expect(await signalled).toBe(true);
    expect(await here.waitFor("host:host_d", 50)).toBe(false);
    expect(await here.waitFor("host:host_d", longMs, AbortSignal.timeout(50))).toBe(false);
  });

  it("everybody who waits for one channel is woken", async () => {
    const { here, there } = under();
    const waits = Array.from({ length: 50 }, () => waitMs(there.waitFor("events", longMs)));
    await here.publish(["events"]);
    expect(Math.max(...(await Promise.all(waits)))).toBeLessThan(wokenMs);
  });

  it("another channel's signal wakes nobody, and a wait ends by itself", async () => {
    const { here, there } = under();
    const wait = waitMs(there.waitFor("host:host_a", 300));
    await here.publish(["host:host_b", "host:host_", "set:host_a"]);
    expect(await wait).toBeGreaterThanOrEqual(290);
  });

  it("a signal sent before the wait is not heard", async () => {
    const { here } = under();
    await here.publish(["set:set_early"]);
    expect(await waitMs(here.waitFor("set:set_early", 200))).toBeGreaterThanOrEqual(190);
  });

  it("a wait ends when it is aborted, and never rejects", async () => {
    const { here } = under();
    const controller = new AbortController();
    const wait = waitMs(here.waitFor("host:host_c", longMs, controller.signal));
    controller.abort();
    expect(await wait).toBeLessThan(wokenMs);
    expect(await waitMs(here.waitFor("host:host_c", longMs, controller.signal))).toBeLessThan(
      wokenMs,
    );
  });

  it("signals published one upon the other all arrive", async () => {
    const { here, there } = under();
    const names = Array.from({ length: 3_000 }, (_, index) => `host:host_${index}` as const);
    const waits = names.map((name) => waitMs(there.waitFor(name, longMs)));
    for (const name of names.slice(0, 500)) void here.publish([name]);
    await here.publish(names.slice(500));
    expect(Math.max(...(await Promise.all(waits)))).toBeLessThan(wokenMs);
  });
}
