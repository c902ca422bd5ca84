import { expect, test } from "vitest";
import { sampleCounts, sampleService, sampleSet } from "../../../test/support/api/api-samples.ts";
import { berth, json, scriptedApi } from "../../../test/support/cli/cli-harness.ts";

const text = "No host of 3 fits: 3 hosts lack memory (insufficient-memory).";
const blocked = sampleService({
  name: "huge",
  replicas: 1,
  desiredReplicas: 1,
  settled: false,
  counts: sampleCounts({ pending: 1 }),
  reason: { code: "no-host-fits", text },
});

/** A clock on which each reading is one second later. */
function tickingClock(): () => number {
  let nowMs = 0;
  return () => (nowMs += 1_000);
}

const waitForHuge = ["wait", "service", "huge", "--for", "settled", "--timeout", "5m"];

test("a wait ends early, with its own exit code, for a set that fits on no host", async () => {
  const api = scriptedApi(() => json({ reached: false, service: blocked }));
  const run = await berth(waitForHuge, { ...api, now: tickingClock() });
  expect(run.exitCode).toBe(7);
  expect(run.stderr).toContain(`No host fits the pending sets of huge: ${text}\n`);
  expect(run.stderr).toContain("The sets stay pending");
  expect(api.seen.length).toBeLessThan(30);
});

test("a wait goes on while another set stops, which may free capacity", async () => {
  const api = scriptedApi((_, count) => {
    if (count > 30) return json({ reached: true, service: sampleService({ name: "huge" }) });
    const counts = sampleCounts({ pending: 1, stopping: 1 });
    return json({ reached: false, service: { ...blocked, counts } });
  });
  const run = await berth(waitForHuge, { ...api, now: tickingClock() });
  expect(run.exitCode).toBe(0);
});

test("a wait for a deletion does not end early", async () => {
  const api = scriptedApi((_, count) =>
    count > 30
      ? json({ reached: true, service: null })
      : json({ reached: false, service: { ...blocked, deleting: true } }),
  );
  const argv = ["wait", "service", "huge", "--for", "deleted", "--timeout", "5m"];
  expect((await berth(argv, { ...api, now: tickingClock() })).exitCode).toBe(0);
});

test("a deletion accepts --yes, because scripts pass it to each deletion", async () => {
  const api = scriptedApi(() =>
    json({ service: blocked, effects: ["Berth will stop and remove 1 set."] }),
  );
  const run = await berth(["delete", "service", "huge", "--yes"], api);
  expect(run).toMatchObject({ exitCode: 0, stderr: "" });
});

test("the message of a timeout ends with one period", async () => {
  const set = sampleSet({ state: "pending", reason: { code: "no-host-fits", text } });
  const api = scriptedApi(() => json({ reached: false, set }));
  const argv = ["wait", "set", set.id, "--for", "running", "--timeout", "3s"];
  const run = await berth(argv, { ...api, now: tickingClock() });
  expect(run.exitCode).toBe(6);
  expect(run.stderr).toContain(`${text}\n`);
  expect(run.stderr).not.toContain("..");
});

test("the timeout of a wait for a service ends with the reason, once and with one period", async () => {
  const api = scriptedApi(() => json({ reached: false, service: blocked }));
  const argv = ["wait", "service", "huge", "--timeout", "3s"];
  const run = await berth(argv, { ...api, now: tickingClock() });
  expect(run.exitCode).toBe(6);
  expect(run.stderr).toContain(`huge was not settled within 3 s: 0/1 ready, 1 pending: ${text}\n`);
});
