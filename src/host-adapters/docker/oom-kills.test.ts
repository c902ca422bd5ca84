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

test("the highest count of any source is correct, and outlives the cgroup", () => {
  const kills = new OomKills();
  expect(kills.assess("c", run, { oomKills: 2, peakBytes: 7 })).toEqual({
    oomKills: 2,
    memoryPeakBytes: 7,
    oomKilled: false,
  });
  for (const atMs of [1, 2]) kills.note("c", atMs); // already in the kernel's count
  expect(kills.assess("c", run, undefined)).toMatchObject({ oomKills: 2, memoryPeakBytes: 7 });
  kills.note("c", 3);
  expect(kills.assess("c", run, undefined)).toMatchObject({ oomKills: 3 });
  expect(kills.assess("c", run, { oomKills: 4, peakBytes: 8 })).toMatchObject({ oomKills: 4 });
});

test("a main process that is killed at the time of an event ran out of memory, with or without the flag", () => {
  const kills = new OomKills();
  kills.note("c", 9_900);
  kills.noteEnd("c", 10_000);
  expect(kills.assess("c", killed, undefined)).toMatchObject({ oomKilled: true, oomKills: 1 });
  const flagged = { ...killed, isFlagged: true };
  expect(kills.assess("d", flagged, undefined)).toMatchObject({ oomKilled: true, oomKills: 1 });
});

test("a main process that is killed long after an event, or exits otherwise, did not run out of memory", () => {
  const kills = new OomKills();
  kills.note("c", 10_000);
  kills.noteEnd("c", 70_000);
  expect(kills.assess("c", killed, undefined)).toMatchObject({ oomKilled: false, oomKills: 1 });
  kills.note("d", 10_000);
  kills.noteEnd("d", 10_000);
  const exited = { ...killed, exitCode: 1 };
  expect(kills.assess("d", exited, undefined)).toMatchObject({ oomKilled: false });
  expect(kills.assess("e", killed, undefined)).toMatchObject({ oomKilled: false, oomKills: 0 });
});

test("the flag of an earlier kill does not explain the exit of the main process", () => {
  const kills = new OomKills();
  const flagged = { ...killed, isFlagged: true };
  const exited = { ...flagged, exitCode: 3 };
  expect(kills.assess("c", exited, undefined)).toMatchObject({ oomKilled: false, oomKills: 1 });
  kills.note("d", 10_000);
  kills.noteEnd("d", 70_000);
  expect(kills.assess("d", flagged, undefined)).toMatchObject({ oomKilled: false, oomKills: 1 });
});

test("another run of the container starts at zero", () => {
  const kills = new OomKills();
  kills.assess("c", run, { oomKills: 2, peakBytes: 7 });
  const next = { ...run, startedAt: "2026-01-05T12:00:20Z" };
  expect(kills.assess("c", next, { oomKills: 0, peakBytes: 1 })).toMatchObject({ oomKills: 0 });
  kills.assess("c", next, { oomKills: 1, peakBytes: 1 });
  kills.forget("c");
  expect(kills.assess("c", next, undefined)).toMatchObject({ oomKills: 0 });
});

test("Docker's times of the exit do not matter, as the wall clock may have been stepped", () => {
  const kills = new OomKills();
  kills.note("c", 9_900);
  kills.noteEnd("c", 10_000);
  const stepped = { ...killed, finishedAt: "2026-01-05T11:50:00Z" };
  expect(kills.assess("c", stepped, undefined)).toMatchObject({ oomKilled: true });
});

test("Docker's flag decides without an event of the exit", () => {
  const kills = new OomKills();
  kills.note("c", 9_900);
  const flagged = { ...killed, isFlagged: true };
  expect(kills.assess("c", flagged, undefined)).toMatchObject({ oomKilled: true });
});
