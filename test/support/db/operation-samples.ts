import * as claims from "../../../src/db/queries/operations/claims.ts";
import * as drains from "../../../src/db/queries/operations/drains.ts";
import * as blockOperations from "../../../src/db/queries/operations/block-operations.ts";
import * as endOperations from "../../../src/db/queries/operations/end-operations.ts";
import * as readOperations from "../../../src/db/queries/operations/read-operations.ts";
import * as startOperations from "../../../src/db/queries/operations/start-operations.ts";
import * as replacements from "../../../src/db/queries/operations/replacements.ts";
import * as previousRelease from "../../../src/db/queries/operations/previous-release.ts";
import { volumeDataSql } from "../../../src/db/queries/volumes/volumes.ts";
import type { Samples } from "./volume-samples.ts";

const ids = ["a", "b"];
const reason = { code: "code", text: "text" };
const amounts = { cpuMillis: 1, memoryBytes: 1, volumeBytes: 1, rootfsBytes: 1 };

/** Calls of the queries about operations, drains and claims. */
export const operationSamples: Samples = {
  upsertDrain: (q) => [
    drains.upsertDrain(q, "host", {
      deadlineSeconds: undefined,
      isForced: false,
      discardsVolumes: false,
    }),
  ],
  deleteDrain: (q) => [drains.deleteDrain(q, "host")],
  interruptResizesForDrains: (q) => [drains.interruptResizesForDrains(q, 1)],
  listMissedDrains: (q) => [drains.listMissedDrains(q)],
  insertMove: (q) => [
    startOperations.insertMove(q, {
      setId: "set",
      owner: "person",
      discardsVolume: false,
      deadlineMs: null,
    }),
  ],
  insertDrainMoves: (q) => [startOperations.insertDrainMoves(q, 1)],
  cancelDrainMoves: (q) => [endOperations.cancelDrainMoves(q, 1)],
  listServicesWithDueOperations: (q) => [readOperations.listServicesWithDueOperations(q, "", 1)],
  listDueOperations: (q) => [
    readOperations.listDueOperations(q, "svc", { volumeDataSql, minReadySeconds: 1, limit: 1 }),
  ],
  readReplicaCounts: (q) => [
    readOperations.readReplicaCounts(q, "svc", { desired: 1, minReadySeconds: 1 }),
  ],
  blockOperations: (q) => [
    blockOperations.blockOperations(q, [{ setId: "set", reason, retryAfterMs: 1 }]),
  ],
  startReplacing: (q) => [
    startOperations.startReplacing(q, [{ setId: "set", replacementSetId: "new", deadlineMs: 1 }]),
  ],
  startUpdating: (q) => [
    startOperations.startUpdating(q, [{ setId: "set", containers: ["app"], interrupts: true }]),
  ],
  startLeaving: (q) => [startOperations.startLeaving(q, ids)],
  insertClaims: (q) => [claims.insertClaims(q, [{ setId: "set", hostId: "host", ...amounts }])],
  listHostsWithEndedClaims: (q) => [claims.listHostsWithEndedClaims(q, "", 1)],
  endClaims: (q) => [claims.endClaims(q, "host")],
  planSetsNow: (q) => [claims.planSetsNow(q, ids)],
  listPreviousMoves: (q) => [previousRelease.listPreviousMoves(q, 1)],
  insertPreviousMoves: (q) => [
    previousRelease.insertPreviousMoves(q, [{ setId: "set", hostId: "host" }]),
  ],
  insertPreviousOperations: (q) => [previousRelease.insertPreviousOperations(q, 1)],
  listServicesWithDecidedReplacements: (q) => [
    replacements.listServicesWithDecidedReplacements(q, "", 1),
  ],
  listDecidedReplacements: (q) => [replacements.listDecidedReplacements(q, "svc", 1)],
  listReplacements: (q) => [replacements.listReplacements(q, ids)],
  waitAgain: (q) => [blockOperations.waitAgain(q, "set", { reason, retryAfterMs: 1 })],
  endOperations: (q) => [endOperations.endOperations(q, ids)],
  wakeOperations: (q) => [blockOperations.wakeOperations(q, "svc", 1)],
  listServicesWithExpiredOperations: (q) => [
    readOperations.listServicesWithExpiredOperations(q, "", 1),
  ],
  expireOperations: (q) => [
    endOperations.expireOperations(q, "svc", { kind: "move", outcome: "expired", reason }, 1),
  ],
  deleteOrphanedOperations: (q) => [endOperations.deleteOrphanedOperations(q)],
};
