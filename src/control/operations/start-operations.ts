import type { EventFacts } from "../../contracts/api/event-texts.ts";
import {
  startLeaving,
  startReplacing,
  startUpdating,
} from "../../db/queries/operations/start-operations.ts";
import { resizeSets } from "../../db/queries/services/resizes.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { insertPendingSets, lockHosts } from "../../db/queries/sets/write-sets.ts";
import { newId } from "../../lib/ids.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import type { OperationDecision } from "./decide-operations.ts";

/** A replacement that is not ready by then is removed, and the operation waits again. */
const REPLACEMENT_DEADLINE_MS = 600_000;
/** The rollout judges the replacement of an update, by its own deadline of at most a day. */
const UPDATE_DEADLINE_MS = 7 * 86_400_000;

/**
 * Runs the decided steps. The caller has locked the service. Returns how many operations advanced.
 */
export async function startOperations(
  tx: UnitOfWork,
  service: ServiceRow,
  decisions: readonly OperationDecision[],
): Promise<number> {
  const stepping = decisions.filter(({ step }) => step !== "wait");
  if (stepping.length === 0) return 0;
  await lockHosts(tx, [
    ...new Set(
      stepping.flatMap(({ operation, step }) => (step === "replace-first" ? [] : operation.hostId)),
    ),
  ]);
  await resizeSets(
    tx,
    stepping.flatMap(({ operation: { setId, to }, step }) =>
      step === "resize" ? { setId, size: to } : [],
    ),
  );
  const leaving = await startLeaving(
    tx,
    stepping.flatMap(({ operation, step }) => (step === "stop-first" ? operation.setId : [])),
  );
  const updating = await startUpdating(
    tx,
    stepping.flatMap((decision) =>
      decision.step === "update-in-place" ? { setId: decision.operation.setId, ...decision } : [],
    ),
  );
  const replaced = await replaceSets(tx, service, stepping);
  const moving = new Set([...leaving, ...updating, ...replaced]);
  const started = stepping.filter(
    ({ operation, step }) => step === "resize" || moving.has(operation.setId),
  );
  for (const decision of started) {
    const { setId, hostId } = decision.operation;
    const about = { tenantId: service.tenantId, serviceId: service.id, setId, hostId };
    const facts = toFacts(decision);
    if (facts) tx.emit({ kind: "set-moved", data: facts, ...about });
    tx.signal(`set:${setId}`, `host:${hostId}`);
  }
  tx.signal(`service:${service.id}`);
  return started.length;
}

/** Creates the replacements. Returns the sets that have one. */
async function replaceSets(
  tx: UnitOfWork,
  service: ServiceRow,
  decisions: readonly OperationDecision[],
): Promise<ReadonlySet<string>> {
  const replaced = decisions.filter(({ step }) => step === "replace-first");
  const newIds = new Map(replaced.map(({ operation }) => [operation.setId, newId("set")]));
  const replacements = replaced.flatMap(({ operation: { setId, kind } }) => {
    const replacementSetId = newIds.get(setId);
    if (replacementSetId === undefined) return [];
    const deadlineMs = kind === "update" ? UPDATE_DEADLINE_MS : REPLACEMENT_DEADLINE_MS;
    return { setId, replacementSetId, deadlineMs };
  });
  // An uncordon may have ended some of the operations meanwhile, because no lock protects them.
  const started = await startReplacing(tx, replacements);
  for (const { operation, template } of replaced) {
    const replacementSetId = newIds.get(operation.setId);
    if (replacementSetId === undefined || !started.has(operation.setId)) continue;
    await insertPendingSets(tx, {
      ids: [replacementSetId],
      tenantId: service.tenantId,
      serviceId: service.id,
      revision: operation.toRevision,
      priority: service.priority,
      ...operation.to,
      rootfsBytes: template.rootfsBytes,
      avoidHostIds:
        operation.kind === "update" && !operation.isHostDraining ? [] : [operation.hostId],
    });
  }
  const [first] = started;
  if (first === undefined) return started;
  const jobId = `place:${newIds.get(first)}`;
  tx.enqueue({ name: "place-sets", jobId, payload: { cause: "set-moved" } });
  return started;
}

/** Undefined for an update in place: its rollout reports the result. */
function toFacts({
  operation,
  template,
  step,
}: OperationDecision): EventFacts<"set-moved"> | undefined {
  const host = operation.hostName;
  if (step === "update-in-place") return undefined;
  if (operation.kind === "update" && step === "replace-first")
    return { cause: "update-started", revision: operation.toRevision };
  if (step === "resize") return { cause: "resized-in-place", host };
  if (step === "replace-first") return { cause: "replacement-started", host };
  return { cause: "leaving", host, hasVolume: template.volume !== null };
}
