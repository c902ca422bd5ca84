import { endOperations } from "../../db/queries/operations/end-operations.ts";
import { listReplacements } from "../../db/queries/operations/replacements.ts";
import { startUpdating } from "../../db/queries/operations/start-operations.ts";
import {
  adoptUpdates,
  assignRevisions,
  cancelUpdates,
  endUpdateRecords,
  insertUpdates,
  type NewUpdate,
  switchUpdates,
  turnUpdates,
} from "../../db/queries/rollouts/rollout-sets.ts";
import type { ActiveRollout } from "../../db/queries/rollouts/rollouts.ts";
import { listHostsOfSets, lockHosts, markSetsDeleted } from "../../db/queries/sets/write-sets.ts";
import type { UpdateDirection } from "../../contracts/api/rollouts.ts";
import type { RolloutAction, RolloutPlan } from "../../scheduler/rollout/rollout-plan.ts";
import type { RolloutInput } from "../../scheduler/rollout/rollout-input.ts";
import type { UnitOfWork } from "../runtime/context.ts";
import { prefetchImages } from "./prefetch-images.ts";
import type { RoundFacts } from "./read-rollout-input.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { toFailureReason } from "./describe-failure.ts";

type ActionOf<K extends RolloutAction["kind"]> = Extract<RolloutAction, { kind: K }>;

/**
 * Stores the actions of a round. The caller has locked the service, and stored nothing yet in this
 * transaction. Locks the hosts whose orders change. Returns the number of sets that changed.
 */
export async function applyActions(
  tx: UnitOfWork,
  { tenantId }: Pick<ServiceRow, "tenantId">,
  rollout: ActiveRollout,
  { input, images }: RoundFacts,
  { actions, prefetch }: Pick<RolloutPlan, "actions" | "prefetch">,
): Promise<number> {
  if (actions.length + prefetch.length === 0) return 0;
  const of = <K extends RolloutAction["kind"]>(kind: K): ActionOf<K>[] =>
    actions.filter((action): action is ActionOf<K> => action.kind === kind);
  const revisionOf = (direction: UpdateDirection) =>
    direction === "to" ? rollout.toRevision : rollout.fromRevision;
  const dropped = of("drop").map(({ setId }) => setId);
  const replacements = await listReplacements(tx, dropped);
  const changedIds = [...of("turn"), ...of("assign")].map(({ setId }) => setId);
  const hostIds = [
    ...new Set([
      ...(await listHostsOfSets(tx, changedIds)),
      ...replacements.flatMap(({ hostId }) => hostId ?? []),
      ...prefetch.map(({ hostId }) => hostId),
    ]),
  ];
  await lockHosts(tx, hostIds);
  await prefetchImages(tx, { rolloutId: rollout.id, tenantId }, images, prefetch);
  await endRecords(tx, rollout.id, of("end"));
  await cancel(tx, rollout.id, of("cancel"));
  await drop(tx, rollout.id, { dropped, replacements, hostIds });
  await switchUpdates(tx, rollout.id, of("switch"));
  await adoptUpdates(tx, rollout, of("adopt"));
  const restarts = rollout.kind === "restart";
  const begun = await insertUpdates(
    tx,
    rollout,
    of("begin").map(({ setId, direction, method }) => ({
      setId,
      direction,
      method,
      toRevision: revisionOf(direction),
      restarts: restarts || method === "in-place-all",
    })),
  );
  await turn(tx, rollout, input, of("turn"), revisionOf);
  const assigned = of("assign").map(({ setId, direction }) => ({
    setId,
    toRevision: revisionOf(direction),
  }));
  await assignRevisions(tx, assigned, hostIds);
  for (const hostId of hostIds) tx.signal(`host:${hostId}`);
  for (const { setId } of actions) tx.signal(`set:${setId}`);
  return begun.length + actions.length - of("begin").length;
}

async function endRecords(
  tx: UnitOfWork,
  rolloutId: string,
  ends: readonly ActionOf<"end">[],
): Promise<void> {
  const ended = ends.map((end) => ({
    setId: end.setId,
    outcome: end.outcome,
    reason: end.outcome === "failed" ? toFailureReason(end.failure) : null,
  }));
  await endUpdateRecords(tx, rolloutId, ended);
}

async function cancel(
  tx: UnitOfWork,
  rolloutId: string,
  canceled: readonly ActionOf<"cancel">[],
): Promise<void> {
  const setIds = canceled.map(({ setId }) => setId);
  await cancelUpdates(tx, setIds);
  await endAsCanceled(tx, rolloutId, setIds);
}

async function drop(
  tx: UnitOfWork,
  rolloutId: string,
  {
    dropped,
    replacements,
    hostIds,
  }: {
    dropped: readonly string[];
    replacements: readonly { id: string; setId: string }[];
    hostIds: readonly string[];
  },
): Promise<void> {
  const marked = await markSetsDeleted(
    tx,
    replacements.map(({ id }) => id),
    hostIds,
  );
  const deleted = new Set(marked.map(({ id }) => id));
  // A replacement that was placed meanwhile is on a host that is not locked: next round.
  const left = new Set(replacements.flatMap(({ id, setId }) => (deleted.has(id) ? [] : setId)));
  const ended = dropped.filter((setId) => !left.has(setId));
  await endOperations(tx, ended);
  await endAsCanceled(tx, rolloutId, ended);
}

async function endAsCanceled(
  tx: UnitOfWork,
  rolloutId: string,
  setIds: readonly string[],
): Promise<void> {
  const ended = setIds.map((setId) => ({ setId, outcome: "canceled" as const, reason: null }));
  await endUpdateRecords(tx, rolloutId, ended);
}

/** Orders running updates again, with another revision. */
async function turn(
  tx: UnitOfWork,
  rollout: ActiveRollout,
  input: RolloutInput,
  turns: readonly ActionOf<"turn">[],
  revisionOf: (direction: UpdateDirection) => number,
): Promise<void> {
  if (turns.length === 0) return;
  const diffs = new Map(
    [...input.candidates, ...input.open].map(({ setId, diff }) => [setId, diff]),
  );
  const isWhole = (setId: string) =>
    rollout.kind === "restart" || diffs.get(setId)?.level === "set-level";
  const turned = await turnUpdates(
    tx,
    rollout,
    turns.map(({ setId, direction }): NewUpdate => {
      const method = isWhole(setId) ? "in-place-all" : "in-place";
      return {
        setId,
        direction,
        method,
        toRevision: revisionOf(direction),
        restarts: isWhole(setId),
      };
    }),
  );
  await startUpdating(
    tx,
    turned.map((setId) => {
      const diff = diffs.get(setId);
      return {
        setId,
        containers: diff?.containers ?? [],
        interrupts: !(diff?.servesDuringUpdate ?? false),
      };
    }),
  );
}
