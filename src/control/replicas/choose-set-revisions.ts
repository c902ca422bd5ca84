import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listOpenRecords, readRolloutTotals } from "../../db/queries/rollouts/rollout-facts.ts";
import { findActiveRollout } from "../../db/queries/rollouts/rollouts.ts";
import type { ServiceRow } from "../../db/queries/services/write-services.ts";
import { chooseNewRevisions } from "../../scheduler/rollout/choose-new-revisions.ts";
import { countWantedSets, selectsByNumber } from "../../scheduler/rollout/count-wanted-sets.ts";
import { OPEN_RECORDS_MAX } from "../../scheduler/rollout/rollout-input.ts";

/**
 * Chooses the revisions of `added` new sets of a locked service. Without a rollout it is the
 * current one. During a rollout, they follow its partition.
 */
export async function chooseSetRevisions(
  tx: Queryable,
  service: ServiceRow,
  added: number,
): Promise<{ revision: number; count: number }[]> {
  const rollout = await findActiveRollout(tx, service.id);
  if (!rollout || rollout.fromRevision === rollout.toRevision)
    return [{ revision: service.revision, count: added }];
  const { minReadySeconds } = service.disruption;
  const scope = { rollout, minReadySeconds, limit: OPEN_RECORDS_MAX };
  const { stopped, selected, atTarget } = await readRolloutTotals(tx, scope);
  const open = await listOpenRecords(tx, scope);
  const changing = open.filter(({ direction, at }) => direction === "to" && at !== "to").length;
  const { state, selection, fromRevision, toRevision } = rollout;
  const desired = Math.max(0, service.desiredReplicas - stopped);
  return chooseNewRevisions(added, {
    state,
    isPausedByFailure: state === "paused" && rollout.changedBy === null,
    fromRevision,
    toRevision,
    wantedAtTarget: selectsByNumber(selection)
      ? countWantedSets(selection, { desired, selected })
      : 0,
    atTarget: atTarget + changing,
  });
}
