import { and, desc, eq, lt, type SQL, type SQLWrapper, sql } from "drizzle-orm";
import type { Demand, ReplicaRequest } from "../../../contracts/api/autoscaling.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { demands, hooks } from "../../schema/autoscaling.ts";
import { anyOf, queryRows, secondsAgo, secondsFromNow } from "../runtime/query.ts";

/**
 * A time in milliseconds since 1970. Unlike ISO 8601 it also represents years without four digits.
 */
function epochMs<T extends number | null>(column: SQLWrapper): SQL<T> {
  return sql`round(extract(epoch from ${column}) * 1000)::float8`;
}

export interface KnownEpisodeRow {
  id: string;
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  resolvedAtMs: number | undefined;
}

/**
 * Lists, for each named key, the held episodes, the named episode and the newest one. The caller
 * names at most 1,000 keys, and a key has few held episodes. The statement reads each key by the
 * index demands_alert_unique. Without `offset 0`, Postgres reads all episodes of the hook if its
 * statistics show a small table.
 */
export async function listKnownEpisodes(
  q: Queryable,
  hookId: string,
  asked: readonly { key: string; startedAtMs: number | undefined }[],
): Promise<{ nowMs: number; episodes: KnownEpisodeRow[] }> {
  const rows = await queryRows<
    { nowMs: number; resolvedAtMs: number | null } & {
      [K in keyof Omit<KnownEpisodeRow, "resolvedAtMs">]: KnownEpisodeRow[K] | null;
    }
  >(
    q,
    sql`with asked as (
          select key, to_timestamp(started_ms / 1000.0) as started_at
          from json_to_recordset(${JSON.stringify(
            asked.map((episode) => ({ key: episode.key, started_ms: episode.startedAtMs ?? null })),
          )}::json) as a(key text, started_ms float8)
        ), known as (
          select d.* from (select distinct key from asked) k cross join lateral (
            select d.id, d.key, d.state, d.started_at, d.resolved_at from demands d
            where d.hook_id = ${hookId} and d.key = k.key and (
              d.state <> 'released'
              or exists (select 1 from asked a where a.key = d.key and a.started_at = d.started_at)
              or d.started_at = (select max(started_at) from demands n where n.hook_id = d.hook_id and n.key = d.key))
            offset 0
          ) d
        )
        select ${epochMs(sql`clock_timestamp()`)} as "nowMs", k.id, k.key, k.state,
          ${epochMs(sql`k.started_at`)} as "startedAtMs",
          ${epochMs(sql`k.resolved_at`)} as "resolvedAtMs"
        from (select 1) one left join known k on true`,
  );
  return {
    nowMs: rows[0]?.nowMs ?? 0,
    episodes: rows.flatMap(({ id, key, state, startedAtMs, resolvedAtMs }) =>
      id === null || key === null || state === null || startedAtMs === null
        ? []
        : { id, key, state, startedAtMs, resolvedAtMs: resolvedAtMs ?? undefined },
    ),
  };
}

export interface NewDemand {
  id: string;
  key: string;
  startedAtMs: number;
  labels: Record<string, string>;
  state: "firing" | "resolved" | "released";
  rule: string;
  identity: string;
  want: ReplicaRequest;
  holdMaxSeconds: number | undefined;
  wantedReplicas: number;
  baseReplicas: number;
}

/**
 * Inserts demands of one hook in one statement. Resolved demands are due for release when the
 * stabilization window ends.
 */
export async function insertDemands(
  q: Queryable,
  hook: { id: string; tenantId: string; serviceId: string; stabilizationSeconds: number },
  rows: readonly NewDemand[],
): Promise<void> {
  if (rows.length === 0) return;
  await q.execute(sql`
    insert into demands (id, tenant_id, service_id, hook_id, key, labels, state, rule, identity, want, hold_max_seconds,
      wanted_replicas, base_replicas, started_at, resolved_at, release_at)
    select d."id", ${hook.tenantId}, ${hook.serviceId}, ${hook.id}, d."key", d."labels", d."state", d."rule", d."identity",
      d."want", d."holdMaxSeconds", d."wantedReplicas", d."baseReplicas", to_timestamp(d."startedAtMs" / 1000.0),
      case when d."state" <> 'firing' then now() end,
      case d."state" when 'resolved' then ${secondsFromNow(hook.stabilizationSeconds)}
        when 'released' then now() end
    from json_to_recordset(${JSON.stringify(rows)}::json) as d("id" text, "key" text, "labels" jsonb, "state" text,
      "rule" text, "identity" text, "want" jsonb, "holdMaxSeconds" int, "wantedReplicas" int, "baseReplicas" int,
      "startedAtMs" float8)`);
}

/** The least time between two updates of `last_received_at`. */
const RECEIVED_EVERY_SECONDS = 60;

/**
 * Records that a delivery mentioned these firing demands. It skips locked rows and takes no other
 * lock, so it cannot be part of a deadlock.
 */
export async function updateLastReceived(q: Queryable, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await q.execute(sql`
    update demands set last_received_at = now() where id in (
      select id from demands where id = ${anyOf(ids)} and state = 'firing'
        and last_received_at < ${secondsAgo(RECEIVED_EVERY_SECONDS)}
      for update skip locked)`);
}

/**
 * Deletes released demands of a hook, at most `limit`, and retains the newest `retainedMax`. So a
 * sender that invents alerts cannot fill the table. (Index demands_released_of_hook.)
 */
export async function deleteSurplusReleased(
  q: Queryable,
  hookId: string,
  retainedMax: number,
  limit: number,
): Promise<void> {
  await q.execute(sql`
    delete from demands where id in (
      select id from demands where hook_id = ${hookId} and state = 'released'
      order by release_at desc offset ${retainedMax} limit ${limit} for update skip locked)`);
}

/** A demand as events describe it. */
export interface ChangedDemand {
  id: string;
  tenantId: string;
  serviceId: string;
  hook: string;
  key: string;
  labels: Record<string, string>;
  wantedReplicas: number;
}

const changedColumns = sql`d.id, d.tenant_id as "tenantId", d.service_id as "serviceId", h.name as hook, d.key, d.labels,
  d.wanted_replicas as "wantedReplicas"`;

/** Resolves firing demands. Berth holds them until the stabilization window of their hook ends. */
export async function resolveDemands(
  q: Queryable,
  ids: readonly string[],
): Promise<ChangedDemand[]> {
  if (ids.length === 0) return [];
  return resolveWhere(q, sql`d.id = ${anyOf(ids)}`);
}

/** Resolves all firing demands of a hook. */
export async function resolveHookDemands(q: Queryable, hookId: string): Promise<ChangedDemand[]> {
  return resolveWhere(q, sql`d.hook_id = ${hookId}`);
}

async function resolveWhere(q: Queryable, condition: SQL): Promise<ChangedDemand[]> {
  return queryRows(
    q,
    sql`update demands d set state = 'resolved', resolved_at = now(),
          release_at = now() + make_interval(secs => h.stabilisation_seconds::float8)
        from hooks h where h.id = d.hook_id and d.state = 'firing' and ${condition}
        returning ${changedColumns}`,
  );
}

/** Marks demands as firing if their alerts fire again. */
export async function reopenDemands(
  q: Queryable,
  ids: readonly string[],
): Promise<ChangedDemand[]> {
  if (ids.length === 0) return [];
  return queryRows(
    q,
    sql`update demands d set state = 'firing', resolved_at = null, release_at = null, last_received_at = now()
        from hooks h where h.id = d.hook_id and d.state <> 'firing'
          and d.id = ${anyOf(ids)}
        returning ${changedColumns}`,
  );
}

/**
 * Releases the resolved demands of a locked service at the end of their stabilization window.
 * (Index demands_held.)
 */
export async function releaseDueDemands(q: Queryable, serviceId: string): Promise<ChangedDemand[]> {
  return queryRows(
    q,
    sql`update demands d set state = 'released' from hooks h
        where h.id = d.hook_id and d.service_id = ${serviceId} and d.state = 'resolved' and d.release_at <= now()
        returning ${changedColumns}`,
  );
}

/**
 * Releases firing demands of a locked service that no delivery has mentioned for `holdMaxSeconds`.
 * They count as resolved at their last mention, so the next delivery of the alert raises them
 * again. (Index demands_held.)
 */
export async function releaseStaleDemands(
  q: Queryable,
  serviceId: string,
): Promise<ChangedDemand[]> {
  return queryRows(
    q,
    sql`update demands d set state = 'released', resolved_at = d.last_received_at, release_at = now() from hooks h
        where h.id = d.hook_id and d.service_id = ${serviceId} and d.state = 'firing' and d.hold_max_seconds is not null
          and d.last_received_at + make_interval(secs => d.hold_max_seconds::float8) <= now()
        returning ${changedColumns}`,
  );
}

/**
 * Releases one held demand for a user, and stores no end of its alert. Returns undefined if Berth
 * holds no demand with this id for the service.
 */
export async function releaseDemand(
  q: Queryable,
  serviceId: string,
  demandId: string,
): Promise<ChangedDemand | undefined> {
  const rows = await queryRows<ChangedDemand>(
    q,
    sql`update demands d set state = 'released', release_at = now()
        from hooks h
        where h.id = d.hook_id and d.id = ${demandId} and d.service_id = ${serviceId} and d.state <> 'released'
        returning ${changedColumns}`,
  );
  return rows[0];
}

export interface HeldRuleRow {
  id: string;
  hook: string;
  want: ReplicaRequest;
  alerts: number;
  isFiring: boolean;
  oldest: { key: string; labels: Record<string, string>; startedAt: string };
  releaseAt: string | null;
}

/**
 * Groups the held demands of a service by hook, rule and request. Returns at most `limit` groups,
 * the largest first, and the number of all held demands. A row of an old release has no request,
 * only an absolute number. (Index demands_held.)
 */
export async function listHeldRules(
  q: Queryable,
  serviceId: string,
  limit: number,
): Promise<{ rules: HeldRuleRow[]; total: number }> {
  const rows = await queryRows<
    Omit<HeldRuleRow, "oldest" | "releaseAt"> & {
      key: string;
      labels: Record<string, string>;
      startedAtMs: number;
      releaseAtMs: number | null;
      total: number;
    }
  >(
    q,
    sql`with held as (
          select d.*, h.name as hook, coalesce(d.want, jsonb_build_object('replicas', d.wanted_replicas)) as wants
          from demands d join hooks h on h.id = d.hook_id
          where d.service_id = ${serviceId} and d.state <> 'released'
        ), grouped as (
          select hook_id || ' ' || rule || ' ' || wants::text as id, min(hook) as hook, wants as want,
            count(distinct coalesce(nullif(identity, ''), key))::int as alerts, bool_or(state = 'firing') as "isFiring",
            (array_agg(id order by started_at, id))[1] as oldest, max(release_at) as release_at,
            max(wanted_replicas) as weight, sum(count(*)) over ()::int as total
          from held group by hook_id, rule, wants
        )
        select g.id, g.hook, g.want, g.alerts, g."isFiring", d.key, d.labels, ${epochMs(sql`d.started_at`)} as "startedAtMs",
          ${epochMs(sql`g.release_at`)} as "releaseAtMs", g.total
        from grouped g join demands d on d.id = g.oldest
        order by g.weight desc, g.id limit ${limit}`,
  );
  return {
    rules: rows.map(({ startedAtMs, releaseAtMs, key, labels, total: _total, ...row }) => ({
      ...row,
      oldest: { key, labels, startedAt: toIso(startedAtMs) },
      releaseAt: releaseAtMs === null || row.isFiring ? null : toIso(releaseAtMs),
    })),
    total: rows[0]?.total ?? 0,
  };
}

/**
 * Stores the current base with the held demands of a locked service, and the replicas that each
 * alert requests over it.
 */
export async function updateDemandBase(
  q: Queryable,
  serviceId: string,
  base: number,
  replicasMax: number,
): Promise<void> {
  await q.execute(sql`
    update demands set base_replicas = ${base}::int, wanted_replicas = least(${replicasMax}::int, case
        when want ? 'replicas' then (want->>'replicas')::int
        when want ? 'step' then ${base}::int + (want->>'step')::int
        else ceil(round(${base}::numeric * (want->>'factor')::numeric, 6))::int end)
    where service_id = ${serviceId} and state <> 'released' and want is not null and base_replicas <> ${base}::int`);
}

const demandColumns = {
  id: demands.id,
  hook: hooks.name,
  key: demands.key,
  labels: demands.labels,
  state: demands.state,
  wantedReplicas: demands.wantedReplicas,
  baseReplicas: demands.baseReplicas,
  startedAtMs: epochMs<number>(demands.startedAt),
  lastReceivedAtMs: epochMs<number>(demands.lastReceivedAt),
  resolvedAtMs: epochMs<number | null>(demands.resolvedAt),
  releaseAtMs: epochMs<number | null>(demands.releaseAt),
};

function selectDemands(q: Queryable, condition: SQL | undefined) {
  return q
    .select(demandColumns)
    .from(demands)
    .innerJoin(hooks, eq(hooks.id, demands.hookId))
    .where(condition);
}

/** Newest first, before `beforeId`, released ones included. (Index demands_service.) */
export async function listDemands(
  q: Queryable,
  serviceId: string,
  beforeId: string | undefined,
  limit: number,
): Promise<Demand[]> {
  const before = beforeId === undefined ? undefined : lt(demands.id, beforeId);
  const condition = and(eq(demands.serviceId, serviceId), before);
  const rows = await selectDemands(q, condition).orderBy(desc(demands.id)).limit(limit);
  return rows.map(toDemand);
}

export async function findDemand(
  q: Queryable,
  serviceId: string,
  demandId: string,
): Promise<Demand | undefined> {
  const condition = and(eq(demands.serviceId, serviceId), eq(demands.id, demandId));
  const rows = await selectDemands(q, condition);
  return rows.map(toDemand)[0];
}

/**
 * Deletes demands that were released more than `ageSeconds` ago, at most `limit`. (Index
 * demands_released.)
 */
export async function deleteReleasedDemands(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`delete from demands where id in (
          select id from demands
          where state = 'released' and release_at < ${secondsAgo(ageSeconds)}
          order by release_at limit ${limit})
        returning id`,
  );
  return rows.length;
}

function toDemand({
  startedAtMs,
  lastReceivedAtMs,
  resolvedAtMs,
  releaseAtMs,
  ...row
}: Awaited<ReturnType<typeof selectDemands>>[number]): Demand {
  return {
    ...row,
    startedAt: toIso(startedAtMs),
    lastReceivedAt: toIso(lastReceivedAtMs),
    resolvedAt: resolvedAtMs === null ? null : toIso(resolvedAtMs),
    releaseAt: releaseAtMs === null ? null : toIso(releaseAtMs),
  };
}

function toIso(epochMs: number): string {
  return new Date(epochMs).toISOString();
}
