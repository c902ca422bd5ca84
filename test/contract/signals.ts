import { expect, it } from "vitest";
import type { Signals } from "../../src/control/runtime/context.ts";

/** The same signals in two processes; for an in-process adapter both ends are one object. */
export interface SignalsUnderTest {
  here: Signals;
  there: Signals;
}

const longMs = 60_000;
/** An unsignaled wait takes `longMs`. A signaled wait takes far less, even on a busy machine. */
const wokenMs = longMs / 2;

/** The guarantees of every implementation of Signals. */
export function describeSignals(under: () => SignalsUnderTest): void {
  const waitMs = async (work: Promise<unknown>): Promise<number> => {
    const startedAtMs = performance.now();
    await work;
    return performance.now() - startedAtMs;
  };

  it("a signal ends the waits for its channel, in this process and in another", async () => {
    const { here, there } = under();
    const waits = [here, there].map((signals) => waitMs(signals.waitFor("service:svc_a", longMs)));
    await here.publish(["set:set_x", "service:svc_a"]);
    for (const ms of await Promise.all(waits)) expect(ms).toBeLessThan(wokenMs);
  });

  it("a wait returns whether a signal ended it", async () => {
    const { here, there } = under();
    const received = there.waitFor("host:host_d", longMs);
    await here.publish(["host:host_d"]);
    expect(await received).toBe(true);
    expect(await here.waitFor("host:host_d", 50)).toBe(false);
    expect(await here.waitFor("host:host_d", longMs, AbortSignal.timeout(50))).toBe(false);
  });

  it("a signal ends all waits for its channel", async () => {
    const { here, there } = under();
    const waits = Array.from({ length: 50 }, () => waitMs(there.waitFor("events", longMs)));
    await here.publish(["events"]);
    expect(Math.max(...(await Promise.all(waits)))).toBeLessThan(wokenMs);
  });

  it("a signal of another channel ends no wait, and a wait times out", async () => {
    const { here, there } = under();
    const wait = waitMs(there.waitFor("host:host_a", 300));
    await here.publish(["host:host_b", "host:host_", "set:host_a"]);
    expect(await wait).toBeGreaterThanOrEqual(290);
  });

  it("a signal before the wait does not end it", async () => {
    const { here } = under();
    await here.publish(["set:set_early"]);
    expect(await waitMs(here.waitFor("set:set_early", 200))).toBeGreaterThanOrEqual(190);
  });

  it("an aborted wait ends and never rejects", async () => {
    const { here } = under();
    const controller = new AbortController();
    const wait = waitMs(here.waitFor("host:host_c", longMs, controller.signal));
    controller.abort();
    expect(await wait).toBeLessThan(wokenMs);
    expect(await waitMs(here.waitFor("host:host_c", longMs, controller.signal))).toBeLessThan(
      wokenMs,
    );
  });

  it("all signals of overlapping publications arrive", async () => {
    const { here, there } = under();
    const names = Array.from({ length: 3_000 }, (_, index) => `host:host_${index}` as const);
    const waits = names.map((name) => waitMs(there.waitFor(name, longMs)));
    for (const name of names.slice(0, 500)) void here.publish([name]);
    await here.publish(names.slice(500));
    expect(Math.max(...(await Promise.all(waits)))).toBeLessThan(wokenMs);
  });
}
