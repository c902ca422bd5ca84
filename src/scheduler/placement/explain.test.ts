import { expect, test } from "vitest";
import {
  explainHostReasons,
  explainPlacement,
  explainRejection,
  explainRemoval,
} from "./explain.ts";
import type { Rejection } from "./model.ts";

const rejections: Record<string, Pick<Rejection, "reasons" | "hostsTotal">> = {
  "no hosts": { hostsTotal: 0, reasons: [] },
  "one cause": { hostsTotal: 12, reasons: [{ reason: "insufficient-memory", hosts: 12 }] },
  "one cause, and others besides": {
    hostsTotal: 12,
    reasons: [
      { reason: "label-mismatch", hosts: 12 },
      { reason: "insufficient-cpu", hosts: 4 },
      { reason: "host-cordoned", hosts: 1 },
    ],
  },
  "no single cause": {
    hostsTotal: 12,
    reasons: [
      { reason: "above-high-water-memory", hosts: 7 },
      { reason: "spread-zone", hosts: 4 },
      { reason: "report-stale", hosts: 1 },
    ],
  },
  "the first set on a machine whose disk is almost full": {
    hostsTotal: 1,
    reasons: [{ reason: "above-high-water-rootfs", hosts: 1 }],
  },
  "two limits of the pool at once": {
    hostsTotal: 2,
    reasons: [
      { reason: "above-high-water-cpu", hosts: 2 },
      { reason: "above-high-water-rootfs", hosts: 2 },
    ],
  },
  "an agent that is too old on all hosts": {
    hostsTotal: 3,
    reasons: [{ reason: "agent-too-old", hosts: 3 }],
  },
  "no host that connects sets to networks": {
    hostsTotal: 2,
    reasons: [{ reason: "networks-unavailable", hosts: 2 }],
  },
  "a host port that sets have on all hosts that publish ports": {
    hostsTotal: 3,
    reasons: [
      { reason: "host-port-taken", hosts: 2 },
      { reason: "publishing-unavailable", hosts: 1 },
    ],
  },
  "a failed self test on the only host": {
    hostsTotal: 1,
    reasons: [{ reason: "host-self-test-failed", hosts: 1 }],
  },
  "two causes at once": {
    hostsTotal: 3,
    reasons: [
      { reason: "host-lost", hosts: 3 },
      { reason: "report-stale", hosts: 3 },
    ],
  },
};

test("a rejection names a cause only when it holds on every host, and each remedy once", async () => {
  const texts = Object.entries(rejections).map(
    ([name, rejection]) => [name, explainRejection(rejection)].join("\n  ") + "\n",
  );
  await expect(texts.join("\n")).toMatchFileSnapshot(
    "../../../test/golden/scheduler/rejections.txt",
  );
});

test("a placement names the parts of its score, largest first", () => {
  const because = { packing: 812_345, affinity: 200_000, images: 75_000 };
  expect(explainPlacement({ score: 1_087_345, because })).toBe(
    "score 1087345: packing 812345, affinity 200000, images 75000",
  );
});

test("equal parts of a score go by name, and a reason of another version is shown as it is", () => {
  expect(explainPlacement({ score: 2, because: { packing: 1, images: 1 } })).toBe(
    "score 2: images 1, packing 1",
  );
  const unknown = [{ reason: "too-loud", hosts: 2 }] as unknown as Rejection["reasons"];
  expect(explainRejection({ hostsTotal: 2, reasons: unknown })).toBe(
    "0 of 2 hosts fit: too-loud on all 2 [too-loud].",
  );
});

test("the reasons of one host have all their remedies", () => {
  expect(explainHostReasons(["host-cordoned", "label-mismatch"])).toBe(
    "host cordoned [host-cordoned], required label missing [label-mismatch]. To fix: uncordon a host (berth uncordon HOST); label a host (berth label HOST KEY=VALUE), or change the service's hostLabels.",
  );
});

test("each reason of a removal has a text of its own", () => {
  const reasons = ["not-ready", "stopped", "leaving-host", "spread", "newest"] as const;
  expect(new Set(reasons.map(explainRemoval)).size).toBe(reasons.length);
});

test("the remedies of a cause in the template and of one in the pool stand together", () => {
  const text = explainHostReasons(["label-mismatch", "insufficient-cpu", "insufficient-memory"]);
  expect(text).toContain("label a host (berth label HOST KEY=VALUE)");
  expect(text).toContain("--overcommit cpu=PERCENT --overcommit memory=PERCENT");
});

test("equal parts of a score are in alphabetical order", () => {
  const because = { memory: 20, cpu: 20, volume: 30 };
  expect(explainPlacement({ score: 70, because })).toBe("score 70: volume 30, cpu 20, memory 20");
});
