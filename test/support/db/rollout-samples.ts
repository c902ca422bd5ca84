import * as hostImages from "../../../src/db/queries/rollouts/host-images.ts";
import * as facts from "../../../src/db/queries/rollouts/rollout-facts.ts";
import * as readRollouts from "../../../src/db/queries/rollouts/read-rollouts.ts";
import * as rolloutSets from "../../../src/db/queries/rollouts/rollout-sets.ts";
import * as rollouts from "../../../src/db/queries/rollouts/rollouts.ts";
import type { ActiveRollout } from "../../../src/db/queries/rollouts/rollouts.ts";
import { resolveStrategy } from "../../../src/contracts/api/rollouts.ts";
import type { Samples } from "./volume-samples.ts";

const ids = ["a", "b"];
const reason = { code: "code", text: "text" };
const strategy = resolveStrategy(null, { replicas: 2, minReadySeconds: 0 });
const state = "running" as const;
const rollout = { id: "rlt", step: 0 };
const update = {
  setId: "set",
  toRevision: 2,
  direction: "to" as const,
  method: "in-place" as const,
  restarts: false,
};
const active: ActiveRollout = {
  ...rollout,
  serviceId: "svc",
  number: 1,
  kind: "update",
  state,
  fromRevision: 1,
  toRevision: 2,
  change: { toRevision: 2 },
  strategy,
  selection: { percent: 100 },
  returnsExcess: false,
  stepBeganAtMs: 1,
  gateSinceMs: null,
  startedAtMs: 1,
  message: null,
  reason: null,
  changedBy: null,
  requestedBy: null,
  nowMs: 1,
};
const scope = { rollout: active, minReadySeconds: 1, limit: 1 };
const byZone = { ...scope, rollout: { ...active, selection: { zones: ["z1", "z2"] } } };
const byLabel = { ...scope, rollout: { ...active, selection: { hostLabels: { disk: "ssd" } } } };
const bySet = { ...scope, rollout: { ...active, selection: { sets: ids } } };
const restart = { ...scope, rollout: { ...active, kind: "restart" as const } };
const back = { ...scope, rollout: { ...active, state: "rolling-back" as const } };
const created = {
  id: "rlt",
  tenantId: "tnt",
  serviceId: "svc",
  kind: "update" as const,
  change: { toRevision: 2 },
  strategy,
  message: null,
  tokenId: "tok",
};

/** Calls of the queries about rollouts. */
export const rolloutSamples: Samples = {
  findActiveRollout: (q) => [rollouts.findActiveRollout(q, "svc")],
  findQueuedRollout: (q) => [rollouts.findQueuedRollout(q, "svc")],
  findRolloutByNumber: (q) => [rollouts.findRolloutByNumber(q, "svc", 1)],
  insertRollout: (q) => [
    rollouts.insertRollout(q, { ...created, revisions: { from: 1, to: 2 } }),
    rollouts.insertRollout(q, { ...created, revisions: null }),
  ],
  deleteOldRollouts: (q) => [rollouts.deleteOldRollouts(q, "svc", { numberMax: 1, limit: 1 })],
  startQueuedRollout: (q) => [rollouts.startQueuedRollout(q, "rlt", { from: 1, to: 2, strategy })],
  updateRolloutRound: (q) => [
    rollouts.updateRolloutRound(q, "rlt", {
      state,
      phase: "updating",
      step: 0,
      selection: { percent: 100 },
      returnsExcess: false,
      isNewStep: true,
      gateSinceMs: 1,
      reason,
      hasEnded: false,
      isProgress: true,
      dueInMs: 1,
    }),
    rollouts.updateRolloutRound(q, "rlt", {
      state,
      phase: "soaking",
      step: 0,
      selection: { count: 1 },
      returnsExcess: true,
      isNewStep: false,
      gateSinceMs: undefined,
      reason: undefined,
      hasEnded: true,
      isProgress: false,
      dueInMs: 1,
    }),
  ],
  changeRolloutState: (q) => [
    rollouts.changeRolloutState(q, "rlt", {
      state: "paused",
      reason,
      tokenId: "tok",
      hasEnded: false,
      restartsStep: true,
    }),
    rollouts.changeRolloutState(q, "rlt", {
      state: "failed",
      reason: null,
      tokenId: null,
      hasEnded: true,
      restartsStep: false,
    }),
  ],
  promoteRollout: (q) => [
    rollouts.promoteRollout(q, "rlt", {
      step: 1,
      selection: { count: 1 },
      returnsExcess: true,
      strategy,
      tokenId: "tok",
    }),
  ],
  listServicesWithDueRollouts: (q) => [rollouts.listServicesWithDueRollouts(q, "", 1)],
  deleteRolloutWakes: (q) => [rollouts.deleteRolloutWakes(q, "svc")],
  insertRolloutWakes: (q) => [rollouts.insertRolloutWakes(q, ids)],
  findMeasurement: (q) => [rollouts.findMeasurement(q, "rlt", "errors")],
  upsertMeasurement: (q) => [
    rollouts.upsertMeasurement(q, "rlt", { metric: "errors", value: 0.5, isWithin: true }),
  ],
  listPrefetchingHosts: (q) => [hostImages.listPrefetchingHosts(q, ids)],
  listHostImages: (q) => [hostImages.listHostImages(q, "rlt", ids)],
  insertHostImages: (q) => [
    hostImages.insertHostImages(q, { rolloutId: "rlt", tenantId: "tnt" }, [
      { hostId: "host", reference: "menu:43", purpose: "pull" },
    ]),
  ],
  deleteHostImages: (q) => [hostImages.deleteHostImages(q, "rlt")],
  findPrefetches: (q) => [hostImages.findPrefetches(q, "host")],
  storePrefetched: (q) => [
    hostImages.storePrefetched(q, "host", [
      { reference: "menu:43", tenant: "food", state: "pulled" },
    ]),
  ],
  findTokenName: (q) => [rollouts.findTokenName(q, "tok")],
  deleteFailedImages: (q) => [rollouts.deleteFailedImages(q, "rlt")],
  wakeRollout: (q) => [rollouts.wakeRollout(q, "svc")],
  insertUpdates: (q) => [rolloutSets.insertUpdates(q, rollout, [update])],
  adoptUpdates: (q) => [rolloutSets.adoptUpdates(q, rollout, [{ setId: "set", direction: "to" }])],
  turnUpdates: (q) => [rolloutSets.turnUpdates(q, rollout, [update])],
  endUpdateRecords: (q) => [
    rolloutSets.endUpdateRecords(q, "rlt", [{ setId: "set", outcome: "failed", reason }]),
  ],
  cancelUpdateRecords: (q) => [rolloutSets.cancelUpdateRecords(q, "rlt")],
  cancelUpdates: (q) => [rolloutSets.cancelUpdates(q, ids)],
  cancelWaitingUpdates: (q) => [rolloutSets.cancelWaitingUpdates(q, "svc")],
  endUpdatesOfRollout: (q) => [rolloutSets.endUpdatesOfRollout(q, "svc")],
  switchUpdates: (q) => [
    rolloutSets.switchUpdates(q, "rlt", [{ setId: "set", method: "in-place" }]),
  ],
  assignRevisions: (q) => [rolloutSets.assignRevisions(q, [{ setId: "set", toRevision: 2 }], ids)],
  readRolloutTotals: (q) => [facts.readRolloutTotals(q, scope)],
  listRolloutCandidates: (q) =>
    [scope, byZone, byLabel, bySet, restart, back].map((each) =>
      facts.listRolloutCandidates(q, each),
    ),
  listOpenRecords: (q) => [scope, byZone, restart].map((each) => facts.listOpenRecords(q, each)),
  noteReadyRecords: (q) => [facts.noteReadyRecords(q, "rlt", ids)],
  listUnhealthySets: (q) => [facts.listUnhealthySets(q, scope)],
  findRollout: (q) => [readRollouts.findRollout(q, "tnt", "web", 1)],
  listRollouts: (q) => [
    readRollouts.listRollouts(q, "tnt", "web", undefined, 1),
    readRollouts.listRollouts(q, "tnt", "web", 2, 1),
  ],
};
