import { expect, it } from "vitest";
import {
  createReason,
  type ReasonCode,
  type ReasonFacts,
  reasonTexts,
  renderReasonText,
} from "./reason-texts.ts";

const host = "host-7";
const nothing = {};

const reasonSamples: { [C in ReasonCode]: readonly ReasonFacts<C>[] } = {
  "volume-host-lost": [
    { host, cause: "host-lost" },
    { host, cause: "docker-unresponsive" },
  ],
  "host-lost-replaced": [nothing],
  "lease-expired": [nothing],
  "host-lost": [nothing],
  "docker-unreachable": [{ reason: null }, { reason: "Docker answers no requests." }],
  "generation-refused": [{ acceptedGeneration: 9_000_000, databaseGeneration: 9 }],
  "host-duplicated": [
    { cause: "another-machine" },
    { cause: "another-boot" },
    { cause: "newer-process" },
  ],
  "disk-full": [{ detail: "ENOSPC: no space left on device, write" }],
  "state-not-saved": [{ detail: "EROFS: read-only file system, open" }],
  "agent-too-old": [{ detail: 'template: Unrecognized key: "gpu"' }],
  "self-test-failed": [
    { reason: null },
    { reason: "The bridge network is missing." },
    { reason: null, isOnlyReported: true },
  ],
  "unknown-sets": [{ sets: 1 }, { sets: 3 }],
  "tunnel-address-missing": [{}],
  "tunnel-address-shared": [{ address: "192.0.2.7" }],
  "resize-refused": [
    { cause: "no-capacity", host, isLost: false, missing: "memory by 2 GiB" },
    { cause: "no-capacity", host, isLost: true, missing: "memory by 2 GiB" },
    { cause: "no-move", host },
    { cause: "report", reason: null },
    { cause: "report", reason: "The set uses 600 MiB." },
  ],
  "volume-bound": [{ host }],
  "move-waits": [
    { host, limitedBy: "max-unavailable", inUse: 1, limit: 1 },
    { host, limitedBy: "max-surge", inUse: 2, limit: 2 },
  ],
  "move-held": [{ host, explanation: "0 of 12 hosts fit." }],
  "update-waits": [
    { limitedBy: "max-unavailable", inUse: 1, limit: 1 },
    { limitedBy: "max-surge", inUse: 2, limit: 2 },
  ],
  "update-held": [{ explanation: "0 of 12 hosts fit." }],
  "update-not-ready": [{ seconds: 600 }],
  "update-unready": [{ seconds: 10 }],
  "update-crash-loop": [{ restarts: 3 }],
  "update-gave-up": [nothing],
  "image-not-pulled": [nothing],
  "rollout-set-failed": [{ failed: 1, setId: "set_2", cause: "It is not ready." }],
  "rollout-changed": [
    { by: "ann", reason: null },
    { by: "ann", reason: "errors." },
  ],
  "rollout-superseded": [{ number: 8 }],
  "rollout-service-deleted": [nothing],
  "rollout-not-startable": [{ explanation: "Its revision was deleted meanwhile." }],
  "operation-expired": [nothing],
  "replacement-not-ready": [{ replacementSetId: "set_2" }],
  "replacement-over-quota": [nothing],
  "no-host-fits": [
    { explanation: "0 of 12 hosts fit.", lastFailure: null },
    { explanation: "0 of 12 hosts fit.", lastFailure: "no such image." },
  ],
};

const sentences = Object.keys(reasonTexts).flatMap((code) =>
  reasonSamples[code as ReasonCode].map(
    (facts) => [code, renderReasonText(code as ReasonCode, facts as never)] as const,
  ),
);

it("renders every reason as its golden text", async () => {
  const text = `${sentences.map(([code, sentence]) => `${code}: ${sentence}`).join("\n")}\n`;
  await expect(text).toMatchFileSnapshot("../../../test/golden/contracts/reason-texts.txt");
});

it("states a sentence that begins as one and ends with a full stop", () => {
  expect(sentences.filter(([, sentence]) => !/^[A-Z0-9].*\.$/.test(sentence))).toEqual([]);
});

it("cuts a text at 2,000 characters", () => {
  const explanation = "x".repeat(3_000);
  expect(createReason("move-held", { host, explanation }, "placement").text).toHaveLength(2_000);
});
