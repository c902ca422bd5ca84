import { expect, test } from "vitest";
import { OomKills } from "./oom-kills.ts";

const run = {
  startedAt: "2026-01-05T12:00:00Z",
  finishedAt: undefined,
  exitCode: undefined,
  isFlagged: false,
};
const endedAt = "2026-01-05T12:00:10Z";
const killed = { ...run, finishedAt: endedAt, exitCode: 137 };

test("the highest count is true, whoever has it, and is kept when the cgroup has gone", () => {
  const kills = new OomKills();
  expect(kills.assess("c", run, { oomKills: 2, peakBytes: 7 })).toEqual({
    oomKills: 2,
    memoryPeakBytes: 7,
    oomKilled: false,
  });
  for (const atMs of [1, 2]) kills.note("c", atMs); // of which the kernel had told
  expect(kills.assess("c", run, undefined)).toMatchObject({ oomKills: 2, memoryPeakBytes: 7 });
  kills.note("c", 3);
  expect(kills.assess("c", run, undefined)).toMatchObject({ oomKills: 3 });
  expect(kills.assess("c", run, { oomKills: 4, peakBytes: 8 })).toMatchObject({ oomKills: 4 });
});

test("a main process that was killed just when Docker told of exhausted memory died of it, flag or not", () => {
  const kills = new OomKills();
  kills.note("c", Date.parse(endedAt) - 100);
  expect(kills.assess("c", killed, undefined)).toMatchObject({ oomKilled: true, oomKills: 1 });
  const flagged = { ...killed, isFlagged: true };
  expect(kills.assess("d", flagged, undefined)).toMatchObject({ oomKilled: true, oomKills: 1 });
});

test("one that was killed long after, or that ended otherwise, did not", () => {
  const kills = new OomKills();
  kills.note("c", Date.parse(endedAt) - 60_000);
  expect(kills.assess("c", killed, undefined)).toMatchObject({ oomKilled: false, oomKills: 1 });
  kills.note("d", Date.parse(endedAt));
  const exited = { ...killed, exitCode: 1 };
  expect(kills.assess("d", exited, undefined)).toMatchObject({ oomKilled: false });
  expect(kills.assess("e", killed, undefined)).toMatchObject({ oomKilled: false, oomKills: 0 });
});

test("the flag of a process that was killed earlier says nothing of how the main process ended", () => {
  const kills = new OomKills();
  const flagged = { ...killed, isFlagged: true };
  const exited = { ...flagged, exitCode: 3 };
  expect(kills.assess("c", exited, undefined)).toMatchObject({ oomKilled: false, oomKills: 1 });
  kills.note("d", Date.parse(endedAt) - 60_000);
  expect(kills.assess("d", flagged, undefined)).toMatchObject({ oomKilled: false, oomKills: 1 });
});

test("another run of the container counts anew", () => {
  const kills = new OomKills();
  kills.assess("c", run, { oomKills: 2, peakBytes: 7 });
  const next = { ...run, startedAt: "2026-01-05T12:00:20Z" };
  expect(kills.assess("c", next, { oomKills: 0, peakBytes: 1 })).toMatchObject({ oomKills: 0 });
  kills.assess("c", next, { oomKills: 1, peakBytes: 1 });
  kills.forget("c");
  expect(kills.assess("c", next, undefined)).toMatchObject({ oomKills: 0 });
});
