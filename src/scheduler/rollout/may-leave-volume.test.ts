import { describe, expect, test } from "vitest";
import { type DepartureCause, mayLeaveVolume } from "./may-leave-volume.ts";

const causes: readonly DepartureCause[] = [
  { kind: "start-failed" },
  ...(["host-lost", "host-unhealthy"] as const).flatMap((kind) =>
    (["replace", "wait", "replace-without-data"] as const).map((onHostLost) => ({
      kind,
      onHostLost,
    })),
  ),
  ...(["move", "drain"] as const).flatMap((kind) =>
    [true, false].map((discardsVolumes) => ({ kind, discardsVolumes })),
  ),
];

describe("a set with a volume", () => {
  test("leaves its volume only if a user or a policy accepts the loss of data", () => {
    expect(causes.filter((cause) => mayLeaveVolume(true, cause))).toEqual([
      { kind: "host-lost", onHostLost: "replace-without-data" },
      { kind: "host-unhealthy", onHostLost: "replace-without-data" },
      { kind: "move", discardsVolumes: true },
      { kind: "drain", discardsVolumes: true },
    ]);
  });
});

test("a set without a volume may leave its host for every cause", () => {
  expect(causes.filter((cause) => !mayLeaveVolume(false, cause))).toEqual([]);
});
