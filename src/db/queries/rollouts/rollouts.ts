import { sql } from "drizzle-orm";
import type {
  RequestedChange,
  RolloutKind,
  RolloutPhase,
  RolloutSelection,
  RolloutState,
  RolloutStrategy,
} from "../../../contracts/api/rollouts.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { rollouts } from "../../schema/rollouts.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { queryRows, secondsFromNow } from "../runtime/query.ts";

/** A rollout as changes read it. Times are milliseconds of the database's clock (I16). */
export interface RolloutRow {
  id: string;
  serviceId: string;
  number: number;
  kind: RolloutKind;
  state: RolloutState;
  /** Null while it is queued. */
  fromRevision: number | null;
  toRevision: number | null;
  change: RequestedChange;
  strategy: RolloutStrategy;
  step: number;
  selection: RolloutSelection | null;
  returnsExcess: boolean;
  stepBeganAtMs: number | null;
  gateSinceMs: number | null;
  startedAtMs: number | null;
  message: string | null;
  reason: Reason | null;
  /** The name of the token that last changed its state. Null if Berth did. */
  changedBy: string | null;
  requestedBy: string | null;
  nowMs: number;
}

/** A rollout that started and has not ended. */
export interface ActiveRollout extends RolloutRow {
  state: "running" | "paused" | "rolling-back";
  fromRevision: number;
  toRevision: number;
  selection: RolloutSelection;
  stepBeganAtMs: number;
}

const millis = (column: string) => sql.raw(`(extract(epoch from ${column}) * 1000)::float8`);

const rolloutColumns = sql`id, service_id as "serviceId", number, kind, state, from_revision as "fromRevision",
  to_revision as "toRevision", change, strategy, step, selection, returns_excess as "returnsExcess",
  ${millis("step_began_at")} as "stepBeganAtMs", ${millis("gate_since")} as "gateSinceMs", ${millis("started_at")} as "startedAtMs",
  message, reason, changed_by as "changedBy", requested_by as "requestedBy", ${millis("now()")} as "nowMs"`;

/** SQL condition: the rollout has started and has not ended. Uses rollouts_active_unique. */
export const activeRolloutSql = sql`state in ('running', 'paused', 'rolling-back')`;

/** Finds the active rollout of a service, whose row the caller has locked. */
export async function findActiveRollout(
  q: Queryable,
  serviceId: string,
): Promise<ActiveRollout | undefined> {
  const [row] = await queryRows<RolloutRow>(
    q,
    sql`select ${rolloutColumns} from rollouts where service_id = ${serviceId} and ${activeRolloutSql}`,
  );
  return row && toActive(row);
}

function toActive(row: RolloutRow): ActiveRollout {
  const { state, fromRevision, toRevision, selection, stepBeganAtMs } = row;
  assert(
    state === "running" || state === "paused" || state === "rolling-back",
    "the query selects active rollouts",
  );
  assert(
    fromRevision !== null && toRevision !== null && selection !== null && stepBeganAtMs !== null,
    "a rollout that started has revisions and a step",
  );
  return { ...row, state, fromRevision, toRevision, selection, stepBeganAtMs };
}

/** Finds the rollout of a service that waits for the end of the active one. */
export async function findQueuedRollout(
  q: Queryable,
  serviceId: string,
): Promise<RolloutRow | undefined> {
  const [row] = await queryRows<RolloutRow>(
    q,
    sql`select ${rolloutColumns} from rollouts where service_id = ${serviceId} and state = 'queued'`,
  );
  return row;
}

/** Finds a rollout of a service by its number. The caller has locked the service. */
export async function findRolloutByNumber(
  q: Queryable,
  serviceId: string,
  number: number,
): Promise<RolloutRow | undefined> {
  const [row] = await queryRows<RolloutRow>(
    q,
    sql`select ${rolloutColumns} from rollouts where service_id = ${serviceId} and number = ${number}`,
  );
  return row;
}

/** SQL expression: the name of a token. Null for an unknown token. */
const tokenName = (tokenId: string | null) => sql`(select name from tokens where id = ${tokenId})`;

export interface NewRollout {
  id: string;
  tenantId: string;
  serviceId: string;
  kind: RolloutKind;
  change: RequestedChange;
  strategy: RolloutStrategy;
  message: string | null;
  /** The token of the request. Null if Berth starts it. */
  tokenId: string | null;
  /** Null if it waits for the end of another one. */
  revisions: { from: number; to: number } | null;
}

/**
 * Inserts a rollout of a service whose row the caller has locked. It is active immediately, or
 * queued. Returns its number.
 */
export async function insertRollout(
  q: Queryable,
  { tokenId, revisions, ...rollout }: NewRollout,
): Promise<{ number: number; requestedBy: string | null }> {
  const number = sql`(select coalesce(max(number), 0) + 1 from rollouts where service_id = ${rollout.serviceId})`;
  const isActive = revisions !== null;
  const values = {
    ...rollout,
    number,
    state: isActive ? ("running" as const) : ("queued" as const),
    phase: isActive ? ("preparing" as const) : null,
    fromRevision: revisions?.from ?? null,
    toRevision: revisions?.to ?? null,
    selection: isActive ? firstSelection(rollout.strategy) : null,
    stepBeganAt: isActive ? sql`now()` : null,
    startedAt: isActive ? sql`now()` : null,
    progressAt: isActive ? sql`now()` : null,
    requestedBy: tokenName(tokenId),
    changedBy: tokenName(tokenId),
  };
  const [row] = await queryRows<{ number: number; requestedBy: string | null }>(
    q,
    sql`${insertInto(rollouts, values)} returning number, requested_by as "requestedBy"`,
  );
  assert(row, "an insert of one row gives a row");
  return row;
}

/**
 * Deletes at most `limit` ended rollouts of a service, up to the number `numberMax`, with their
 * records.
 */
export async function deleteOldRollouts(
  q: Queryable,
  serviceId: string,
  { numberMax, limit }: { numberMax: number; limit: number },
): Promise<void> {
  await q.execute(
    sql`delete from rollouts where id in (
          select id from rollouts where service_id = ${serviceId} and number <= ${numberMax} and ended_at is not null
          order by number limit ${limit})`,
  );
}

function firstSelection({ steps }: RolloutStrategy): RolloutSelection {
  return steps[0]?.select ?? { percent: 100 };
}

/** Starts the queued rollout of a service without an active one. */
export async function startQueuedRollout(
  q: Queryable,
  rolloutId: string,
  { from, to, strategy }: { from: number; to: number; strategy: RolloutStrategy },
): Promise<void> {
  await q.execute(
    sql`update rollouts set state = 'running', phase = 'preparing', from_revision = ${from}, to_revision = ${to},
          selection = ${JSON.stringify(firstSelection(strategy))}::jsonb, step_began_at = now(), started_at = now(),
          progress_at = now(), due_at = now()
        where id = ${rolloutId} and state = 'queued'`,
  );
}

/** The result of a round. */
export interface RolloutRound {
  state: RolloutState;
  phase: RolloutPhase;
  step: number;
  selection: RolloutSelection;
  returnsExcess: boolean;
  isNewStep: boolean;
  gateSinceMs: number | undefined;
  /** Undefined if the reason of its state stays. */
  reason: Reason | undefined;
  hasEnded: boolean;
  /** The round ended or began the update of a set, or changed the step or the state. */
  isProgress: boolean;
  dueInMs: number;
}

/** Stores the result of a round. Berth is then the author of a new state. */
export async function updateRolloutRound(
  q: Queryable,
  rolloutId: string,
  round: RolloutRound,
): Promise<void> {
  const { reason } = round;
  await q.execute(
    sql`update rollouts set changed_by = case when state = ${round.state} then changed_by end, state = ${round.state},
          phase = ${round.phase}, step = ${round.step}, selection = ${JSON.stringify(round.selection)}::jsonb,
          returns_excess = ${round.returnsExcess}, attempts = 0,
          step_began_at = case when ${round.isNewStep}::boolean then now() else step_began_at end,
          gate_since = to_timestamp(${round.gateSinceMs === undefined ? null : round.gateSinceMs / 1_000}::float8),
          reason = case when ${reason === undefined}::boolean then reason else ${reason === undefined ? null : JSON.stringify(reason)}::jsonb end,
          progress_at = case when ${round.isProgress}::boolean then now() else progress_at end,
          ended_at = case when ${round.hasEnded}::boolean then now() end,
          due_at = ${secondsFromNow(round.dueInMs / 1_000)}
        where id = ${rolloutId}`,
  );
}

/** A user's change of the state of a rollout. */
export interface RolloutStateChange {
  state: RolloutState;
  /** Null removes the reason of the previous state. */
  reason: Reason | null;
  /** The token of the request. Null if another request had this effect. */
  tokenId: string | null;
  hasEnded: boolean;
  /** The sets begin their deadlines again. */
  restartsStep: boolean;
}

/** Changes the state of a rollout on request. The caller has locked the service. */
export async function changeRolloutState(
  q: Queryable,
  rolloutId: string,
  { state, reason, tokenId, hasEnded, restartsStep }: RolloutStateChange,
): Promise<void> {
  await q.execute(
    sql`update rollouts set state = ${state}, reason = ${reason === null ? null : JSON.stringify(reason)}::jsonb,
          changed_by = ${tokenId === null ? sql`null` : tokenName(tokenId)},
          step_began_at = case when ${restartsStep}::boolean then now() else step_began_at end, gate_since = null,
          ended_at = case when ${hasEnded}::boolean then now() end, due_at = now()
        where id = ${rolloutId}`,
  );
}

/** Changes the step or the selection of a rollout on request. The caller has locked the service. */
export async function promoteRollout(
  q: Queryable,
  rolloutId: string,
  to: {
    step: number;
    selection: RolloutSelection;
    returnsExcess: boolean;
    strategy: RolloutStrategy;
    tokenId: string;
  },
): Promise<void> {
  await q.execute(
    sql`update rollouts set step = ${to.step}, selection = ${JSON.stringify(to.selection)}::jsonb,
          returns_excess = ${to.returnsExcess}, strategy = ${JSON.stringify(to.strategy)}::jsonb,
          step_began_at = now(), gate_since = null, progress_at = now(), due_at = now(), changed_by = ${tokenName(to.tokenId)}
        where id = ${rolloutId}`,
  );
}

/**
 * Lists services after `after` whose rollout is due, or whose sets a report has changed, in the
 * order of their ids. Uses rollouts_due and rollout_wakes_service.
 */
export async function listServicesWithDueRollouts(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select id from (
          (select service_id as id from rollouts
            where state in ('running', 'rolling-back') and due_at <= now() and service_id > ${after} order by service_id limit ${limit})
          union
          (select distinct service_id as id from rollout_wakes where service_id > ${after} order by service_id limit ${limit})
        ) due order by id limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** Deletes the hints of reports about a service whose rollout the caller reads next. */
export async function deleteRolloutWakes(q: Queryable, serviceId: string): Promise<void> {
  await q.execute(sql`delete from rollout_wakes where service_id = ${serviceId}`);
}

/** Stores a hint that reports concern the rollouts of these services. */
export async function insertRolloutWakes(
  q: Queryable,
  serviceIds: readonly string[],
): Promise<void> {
  if (serviceIds.length === 0) return;
  await q.execute(
    sql`insert into rollout_wakes (service_id) select value from json_array_elements_text(${JSON.stringify(serviceIds)}::json)`,
  );
}

/** The newest value of a metric, and since when the values have been within the limits. */
export async function findMeasurement(
  q: Queryable,
  rolloutId: string,
  metric: string,
): Promise<{ value: number; atMs: number; withinSinceMs: number | undefined } | undefined> {
  const [row] = await queryRows<{ value: number; atMs: number; withinSinceMs: number | null }>(
    q,
    sql`select value, ${millis("at")} as "atMs", ${millis("within_since")} as "withinSinceMs" from rollout_measurements
        where rollout_id = ${rolloutId} and metric = ${metric}`,
  );
  return row && { ...row, withinSinceMs: row.withinSinceMs ?? undefined };
}

/** The name of a token. */
export async function findTokenName(q: Queryable, tokenId: string): Promise<string | undefined> {
  const [row] = await queryRows<{ name: string | null }>(
    q,
    sql`select ${tokenName(tokenId)} as name`,
  );
  return row?.name ?? undefined;
}

/** Forgets images that hosts could not pull, so that they try again. */
export async function deleteFailedImages(q: Queryable, rolloutId: string): Promise<void> {
  await q.execute(
    sql`delete from host_images where rollout_id = ${rolloutId} and state = 'failed'`,
  );
}

/** Makes the active rollout of a service due, because the number of its sets has changed. */
export async function wakeRollout(q: Queryable, serviceId: string): Promise<void> {
  await q.execute(
    sql`update rollouts set due_at = now() where service_id = ${serviceId} and ${activeRolloutSql} and due_at > now()`,
  );
}

/** A rollout has values of at most this number of metrics. */
const METRICS_MAX = 20;

/**
 * Stores the newest value of a metric, and since when its values have been within the bounds of the
 * step. Ignores further metrics of a rollout with METRICS_MAX.
 */
export async function upsertMeasurement(
  q: Queryable,
  rolloutId: string,
  { metric, value, isWithin }: { metric: string; value: number; isWithin: boolean },
): Promise<void> {
  await q.execute(
    sql`insert into rollout_measurements as m (rollout_id, metric, value, within_since)
        select ${rolloutId}, ${metric}, ${value}, case when ${isWithin}::boolean then now() end
        where (select count(*) from rollout_measurements where rollout_id = ${rolloutId} and metric <> ${metric}) < ${METRICS_MAX}
        on conflict (rollout_id, metric) do update set value = excluded.value, at = now(),
          within_since = case when ${isWithin}::boolean then coalesce(m.within_since, now()) end`,
  );
}
