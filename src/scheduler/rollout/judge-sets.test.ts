import { describe, expect, test } from "vitest";
import { createRecord, NOW_MS, strategy } from "../../../test/support/fleet/rollout-inputs.ts";
import { judgeRecord, judgeUnhealthySet } from "./judge-sets.ts";
import type { OpenRecord, UnhealthySet } from "./rollout-input.ts";

const limits = { nowMs: NOW_MS, strategy, minReadySeconds: 5, stepBeganAtMs: NOW_MS - 3_000_000 };

function judge(
  updated: Partial<OpenRecord["updated"]>,
  facts: Partial<Omit<OpenRecord, "updated">> = {},
) {
  return judgeRecord(createRecord("set_a", { ...facts, updated }), limits);
}

const waiting = (nextMs: number) => ({ outcome: "waiting", nextMs });
const failed = (cause: string, limit: number) => ({
  outcome: "failed",
  failure: { setId: "set_a", cause, limit },
});
const ago = (seconds: number) => NOW_MS - seconds * 1_000;
const ready = { isReady: true, wasReady: true };

describe("the update of a set", () => {
  test("is done once the operation has ended and the set is ready long enough", () => {
    const ended = { operation: undefined };
    expect(judge({ ...ready, readySinceMs: ago(5) }, ended)).toEqual({ outcome: "done" });
    expect(judge({ ...ready, readySinceMs: ago(4) }, ended)).toEqual(waiting(NOW_MS + 1_000));
    expect(judge({ ...ready, readySinceMs: ago(5) })).toEqual(waiting(Infinity));
    expect(judge(ready, ended)).toEqual(waiting(Infinity));
  });

  test("is lost with its set, and canceled with its operation", () => {
    expect(judge({ isDeleted: true, state: "failed" })).toEqual({ outcome: "lost" });
    expect(judge({}, { operation: undefined, at: "from" })).toEqual({ outcome: "canceled" });
  });

  test("misses the progress deadline at its end, and not before", () => {
    expect(judge({}, { beganAtMs: ago(599) })).toEqual(waiting(NOW_MS + 1_000));
    expect(judge({}, { beganAtMs: ago(600) })).toEqual(failed("not-ready", 600));
  });

  test("has no deadline while it waits, or while its host is not ready", () => {
    expect(judge({ state: "failed" }, { beganAtMs: undefined })).toEqual(waiting(Infinity));
    expect(judge({ hostReadySinceMs: undefined }, { beganAtMs: 0 })).toEqual(waiting(Infinity));
    expect(judge({ hostReadySinceMs: ago(10) }, { beganAtMs: 0 })).toEqual(
      waiting(NOW_MS + 590_000),
    );
  });

  test("fails when it becomes unready for long enough", () => {
    const unready = (seconds: number) => ({ wasReady: true, unreadySinceMs: ago(seconds) });
    const began = { beganAtMs: ago(60) };
    expect(judge(unready(9), began)).toEqual(waiting(NOW_MS + 1_000));
    expect(judge(unready(10), began)).toEqual(failed("unready", 10));
    expect(judge({ wasReady: true }, began)).toEqual(waiting(NOW_MS + 540_000));
  });

  test("gets the progress deadline if it became unready with its host", () => {
    const set = { wasReady: true, unreadySinceMs: ago(30), hostReadySinceMs: ago(20) };
    expect(judge(set, { beganAtMs: ago(60) })).toEqual(waiting(NOW_MS + 580_000));
  });

  test("fails if its containers restart too often, its agent gives up, or images are missing", () => {
    expect(judge({ restarts: 2 })).toEqual(waiting(NOW_MS + 599_000));
    expect(judge({ restarts: 3 })).toEqual(failed("crash-loop", 3));
    expect(judge({ state: "failed" })).toEqual(failed("gave-up", 0));
    expect(judge({}, { images: { state: "failed" } })).toEqual(failed("images", 0));
    const never = { ...limits, strategy: { ...strategy, restartsMax: 0 } };
    expect(judgeRecord(createRecord("set_a"), never).outcome).toBe("waiting");
  });

  test("fails if it is ready only from time to time until the deadline", () => {
    const began = { beganAtMs: ago(605) };
    expect(judge({ ...ready, readySinceMs: ago(1) }, began)).toEqual(failed("not-ready", 600));
    expect(judge({ ...ready, readySinceMs: ago(5) }, { ...began, operation: undefined })).toEqual({
      outcome: "done",
    });
  });
});

describe("a set at the target that is not healthy", () => {
  const set: UnhealthySet = {
    setId: "set_a",
    readySinceMs: undefined,
    wasReady: true,
    unreadySinceMs: ago(9),
    placedAtMs: ago(1_000),
    hostReadySinceMs: 0,
  };
  const judgeSet = (facts: Partial<UnhealthySet>, stepBeganAtMs = 0) =>
    judgeUnhealthySet({ ...set, ...facts }, { ...limits, stepBeganAtMs });

  test("fails after it was unready for long enough", () => {
    expect(judgeSet({})).toEqual(waiting(NOW_MS + 1_000));
    expect(judgeSet({ unreadySinceMs: ago(10) })).toEqual(failed("unready", 10));
  });

  test("gets the progress deadline if it was unready before the step or a resume", () => {
    expect(judgeSet({ unreadySinceMs: ago(100) }, ago(20))).toEqual(waiting(NOW_MS + 580_000));
    expect(judgeSet({ unreadySinceMs: ago(700) }, ago(600))).toEqual(failed("not-ready", 600));
  });

  test("gets the progress deadline from its placement if it was never ready", () => {
    const created = { wasReady: false, unreadySinceMs: undefined };
    expect(judgeSet({ ...created, placedAtMs: ago(30) })).toEqual(waiting(NOW_MS + 570_000));
    expect(judgeSet(created)).toEqual(failed("not-ready", 600));
  });

  test("waits while its host is not ready, and until it is available", () => {
    expect(judgeSet({ hostReadySinceMs: undefined })).toEqual(waiting(Infinity));
    expect(judgeSet({ readySinceMs: ago(2) })).toEqual(waiting(NOW_MS + 3_000));
  });
});
