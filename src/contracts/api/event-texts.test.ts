import { expect, it } from "vitest";
import { eventKinds } from "./events.ts";
import {
  type EventFacts,
  type eventTexts,
  renderEmittedEvent,
  renderEventText,
} from "./event-texts.ts";

const service = "menu-web";
const host = "host-7";
const demand = { alert: "HighLoad (9f2a61c7…)", hook: "load", wantedReplicas: 5 };
const silent = { reason: null };
const failed = { reason: "Docker has no image menu:42." };
const nothing = {};
const session = { sessionId: "ses_1", kind: "exec", container: "app", by: "ann" } as const;

const samples: { [K in keyof typeof eventTexts]: readonly EventFacts<K>[] } = {
  "service-created": [{ service, replicas: 1 }],
  "service-changed": [{ service, changed: ["template", "placement"], revision: 4 }],
  "service-scaled": [
    { service, cause: "request", from: 3, to: 10, replicas: 8 },
    { service, cause: "removal", removed: 1 },
    { service, cause: "volume-restored", volumeId: "vol_1", to: 4 },
  ],
  "service-resized": [{ service, size: "cpu 8, memory 16Gi", inPlace: 1, replaced: 2 }],
  "service-deleted": [{ service }],
  "set-placed": [{ host }],
  "set-rejected": [{ explanation: "0 of 12 hosts fit." }],
  "set-preparing": [silent],
  "set-starting": [{ cause: "request" }, { cause: "restart" }, { cause: "report", ...silent }],
  "set-running": [silent],
  "set-ready": [nothing],
  "set-not-ready": [silent, failed],
  "set-warning": [{ warning: "The kernel refuses the new limit." }],
  "set-resized": [nothing],
  "set-resize-refused": [silent, failed],
  "set-stopping": [{ cause: "request" }, { cause: "deletion" }, { cause: "report", ...silent }],
  "set-stopped": [silent],
  "set-failed": [silent, failed],
  "set-lost": [
    { cause: "host-lost", host, isReplaced: true },
    { cause: "host-deleted", host, isReplaced: false },
    { cause: "docker-unresponsive", host, isReplaced: true },
    { cause: "report", ...silent },
  ],
  "set-held": [{ explanation: "Host host-7 is lost and has the volume of this set." }],
  "set-removed": [{ isPlacedAgain: false }, { isPlacedAgain: true }],
  "set-moved": [
    { cause: "request" },
    { cause: "replacement-ready", replacementSetId: "set_2" },
    { cause: "host-deleted", host },
    { cause: "resized-in-place", host },
    { cause: "replacement-started", host },
    { cause: "leaving", host, hasVolume: false },
    { cause: "leaving", host, hasVolume: true },
    { cause: "canceled" },
  ],
  "container-exited": [{ container: "app", ...silent }],
  "container-out-of-memory": [{ container: "app", ...silent }],
  "container-restarted": [
    { container: "app", exitCode: null, restarts: 1 },
    { container: "app", exitCode: 137, restarts: 2 },
  ],
  "volume-trashed": [{ expiresAt: "2026-12-01 10:00 UTC" }],
  "volume-restored": [nothing],
  "volume-purging": [nothing],
  "volume-not-purged": [{ reason: "a process uses it." }],
  "volume-purged": [nothing],
  "volume-lost": [{ cause: "host-deleted" }, { cause: "missing" }],
  "host-enrolled": [{ host, pool: "default" }],
  "host-ready": [nothing],
  "host-unhealthy": [silent, { reason: "Docker does not respond." }],
  "host-lost": [{ host }],
  "host-ahead": [
    { acceptedGeneration: 12, databaseGeneration: 9 },
    { acceptedGeneration: 9_000_000, databaseGeneration: 9, isRefused: true },
  ],
  "host-duplicated": [
    { cause: "another-machine" },
    { cause: "another-boot" },
    { cause: "newer-process" },
  ],
  "host-self-test-failed": [
    silent,
    { reason: "The bridge network is missing." },
    { reason: "The bridge network is missing.", isOnlyReported: true },
  ],
  "host-self-test-passed": [nothing],
  "host-features-lost": [
    { features: ["init"], sets: 1 },
    { features: ["init", "tmpfs"], sets: 3 },
  ],
  "host-machine-accepted": [nothing],
  "host-credential-rotated": [
    { cause: "request", host: "h1" },
    { cause: "used", host: "h1" },
  ],
  "host-volumes-found": [
    { deletedHostId: "host_0000000000000000000000000A", volumes: 1 },
    { deletedHostId: "host_0000000000000000000000000A", volumes: 3 },
  ],
  "host-volumes-adopted": [{ deletedHostId: "host_0000000000000000000000000A", volumes: 3 }],
  "host-addresses-conflicting": [{ addresses: ["10.64.0.9", "fd00::9"] }],
  "host-unknown-sets": [{ sets: 1 }, { sets: 3 }],
  "host-unknown-sets-deleted": [{ sets: 3 }],
  "host-cordoned": [{ host }],
  "host-uncordoned": [{ host }],
  "host-draining": [
    { cause: "request", host },
    { cause: "deadline-missed", host, sets: 3, isForced: false },
    { cause: "deadline-missed", host, sets: 1, isForced: true },
  ],
  "host-deleted": [{ host }],
  "replacement-held": [{ pool: "default", hostsDown: 4, hostsTotal: 10 }],
  "rollout-started": [{ service, number: 7, by: "ann", revision: 4, sets: 6 }],
  "rollout-step": [{ service, number: 7, step: 2, steps: 3 }],
  "rollout-paused": [
    { service, number: 7, by: null, reason: "1 set failed." },
    { service, number: 7, by: "ann", reason: null },
  ],
  "rollout-resumed": [{ service, number: 7, by: "ann", reason: null }],
  "rollout-promoted": [{ service, number: 7, by: "ann", reason: null }],
  "rollout-rolling-back": [{ service, number: 7, by: "ann", reason: "errors." }],
  "rollout-completed": [{ service, number: 7, sets: 6, revision: 4 }],
  "rollout-rolled-back": [{ service, number: 7, revision: 3 }],
  "rollout-failed": [{ service, number: 7, by: null, reason: "1 set failed." }],
  "rollout-superseded": [{ service, number: 7, successor: 8 }],
  "rollout-canceled": [{ service, number: 7, by: null, reason: "The service is being deleted." }],
  "set-updated": [
    { revision: 4, containers: ["app"] },
    { revision: 4, containers: [] },
  ],
  "demand-raised": [demand],
  "demand-resolved": [demand],
  "demand-released": [demand],
  "demand-stale": [demand],
  "alerts-truncated": [{ hook: "load", truncatedAlerts: 3 }],
  "decision-made": [
    { service, from: 3, to: 5, because: ["HighLoad requests 5 sets", "maximum is 32"] },
    { service, from: 5, to: 1, because: ["no alert fires"] },
  ],
  "hook-changed": [{ service, hook: "load", changed: ["rules"] }],
  "tenant-changed": [{ tenant: "food", changed: ["setsMax", "pools"] }],
  "network-created": [{ network: "web", subnets: ["10.64.0.0/16", "fd00:64::/64"] }],
  "network-changed": [{ network: "web", subnets: ["10.64.0.0/16"] }],
  "network-deleted": [{ network: "web" }],
  "service-address-missing": [{ service, networks: ["default", "web"] }],
  "rules-created": [
    { network: "web", rules: ["no-web (deny ingress to db from any, priority 1000)"], count: 1 },
    { network: "web", rules: ["a", "b"], count: 500 },
  ],
  "rule-changed": [
    {
      network: "web",
      rule: "no-web",
      definition: "deny ingress tcp 5432 to db from any, priority 2000",
      changed: ["protocol", "ports", "priority"],
    },
  ],
  "rules-deleted": [
    { cause: "request", network: "web", rules: ["no-web"], count: 1 },
    { cause: "service-deleted", service, network: "web", rules: ["a", "b"], count: 2 },
  ],
  "registry-stored": [{ registry: "ghcr.io", username: "puller" }],
  "registry-deleted": [{ registry: "ghcr.io" }],
  "token-created": [
    { cause: "token", name: "ci", role: "tenant" },
    { cause: "hook", service, name: "load" },
    { cause: "rotation", name: "ci", role: "tenant" },
    { cause: "hook-rotation", service, name: "load" },
  ],
  "session-started": [
    { ...session, program: "sh" },
    { ...session, kind: "attach", program: null },
  ],
  "session-ended": [
    { ...session, program: "sh", seconds: 12, exitCode: 0 },
    { ...session, program: "sh", seconds: 12, exitCode: null, reason: "The caller disconnected." },
  ],
  "session-refused": [{ ...session, reason: "Berth permits no session in an infra container." }],
  "token-revoked": [{ cause: "token" }, { cause: "hook", service }],
};

it("renders every kind of event as its golden text", async () => {
  const events = eventKinds.flatMap((kind) =>
    samples[kind].map((facts) => `${kind}: ${renderEventText(kind, facts as never)}`),
  );
  const text = `${events.join("\n")}\n`;
  await expect(text).toMatchFileSnapshot("../../../test/golden/contracts/event-texts.txt");
});

it("states a sentence that begins as one and ends with a full stop", () => {
  const sentences = eventKinds.flatMap((kind) =>
    samples[kind].map((facts) => renderEventText(kind, facts as never)),
  );
  expect(sentences.filter((sentence) => !/^[A-Z0-9].*\.$/.test(sentence))).toEqual([]);
});

it("renders an emitted event from its data, which may hold further members", () => {
  const data = { host, pool: "default", tokenId: "tok_1" };
  expect(renderEmittedEvent({ kind: "host-enrolled", data })).toBe(
    "Host host-7 enrolled in pool default.",
  );
});

it("cuts a text at 2,000 characters", () => {
  const reason = "x".repeat(3_000);
  expect(renderEventText("set-failed", { reason })).toHaveLength(2_000);
});
