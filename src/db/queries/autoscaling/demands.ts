import { type SQL, sql } from "drizzle-orm";
import type { Demand } from "../../../contracts/api/autoscaling.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, rowsOf } from "../runtime/query.ts";

/** A time as milliseconds since 1970, so that years of more or fewer than four digits survive the way there and back. */
const epochMs = (column: SQL) => sql`round(extract(epoch from ${column}) * 1000)::float8`;

export interface KnownRunRow {
  id: string;
  key: string;
  startedAtMs: number;
  state: "firing" | "resolved" | "released";
  resolvedAtMs: number | undefined;
  baseReplicas: number;
}

/**
 * Of the named keys: runs that are held, the named runs, and each key's newest run. The caller asks for at most 1,000 at
 * once, and a key has few runs that are held. Key by key on the index demands_alert_unique: `offset 0` keeps the planner from
 * reading all runs of the hook instead, which it prefers while it thinks the table is small.
 */
export async function listKnownRuns(
  q: Queryable,
  hookId: string,
  asked: readonly { key: string; startedAtMs: number | undefined }[],
): Promise<{ nowMs: number; runs: KnownRunRow[] }> {
  const rows = await rowsOf<
    { nowMs: number; resolvedAtMs: number | null } & {
      [K in keyof Omit<KnownRunRow, "resolvedAtMs">]: KnownRunRow[K] | null;
    }
  >(
    q,
    sql`with asked as (
          select key, to_timestamp(started_ms / 1000.0) as started_at
          from json_to_recordset(${JSON.stringify(
            asked.map((run) => ({ key: run.key, started_ms: run.startedAtMs ?? null })),
          )}::json) as a(key text, started_ms float8)
        ), known as (
          select d.* from (select distinct key from asked) k cross join lateral (
            select d.id, d.key, d.state, d.base_replicas, d.started_at, d.resolved_at from demands d
            where d.hook_id = ${hookId} and d.key = k.key and (
              d.state <> 'released'
              or exists (select 1 from asked a where a.key = d.key and a.started_at = d.started_at)
              or d.started_at = (select max(started_at) from demands n where n.hook_id = d.hook_id and n.key = d.key))
            offset 0
          ) d
        )
        select ${epochMs(sql`clock_timestamp()`)} as "nowMs", k.id, k.key, k.state,
          k.base_replicas as "baseReplicas", ${epochMs(sql`k.started_at`)} as "startedAtMs",
          ${epochMs(sql`k.resolved_at`)} as "resolvedAtMs"
        from (select 1) one left join known k on true`,
  );
  return {
    nowMs: rows[0]?.nowMs ?? 0,
    runs: rows.flatMap(({ id, key, state, baseReplicas, startedAtMs, resolvedAtMs }) =>
      id === null || key === null || state === null || baseReplicas === null || startedAtMs === null
        ? []
        : { id, key, state, baseReplicas, startedAtMs, resolvedAtMs: resolvedAtMs ?? undefined },
    ),
  };
}

export interface NewDemand {
  id: string;
  key: string;
  startedAtMs: number;
  labels: Record<string, string>;
  state: "firing" | "resolved" | "released";
  wantedReplicas: number;
  baseReplicas: number;
}

/** Inserts demands of one hook in one statement; those resolved already are held for the hook's stabilisation time. */
export async function insertDemands(
  q: Queryable,
  hook: { id: string; tenantId: string; serviceId: string; stabilisationSeconds: number },
  demands: readonly NewDemand[],
): Promise<void> {
  if (demands.length === 0) return;
  await q.execute(sql`
    insert into demands (id, tenant_id, service_id, hook_id, key, labels, state, wanted_replicas, base_replicas,
      started_at, resolved_at, release_at)
    select d."id", ${hook.tenantId}, ${hook.serviceId}, ${hook.id}, d."key", d."labels", d."state", d."wantedReplicas",
      d."baseReplicas", to_timestamp(d."startedAtMs" / 1000.0), case when d."state" <> 'firing' then now() end,
      case d."state" when 'resolved' then now() + make_interval(secs => ${hook.stabilisationSeconds}::float8)
        when 'released' then now() end
    from json_to_recordset(${JSON.stringify(demands)}::json) as d("id" text, "key" text, "labels" jsonb, "state" text,
      "wantedReplicas" int, "baseReplicas" int, "startedAtMs" float8)`);
}

/** What is said of a demand in events. */
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

/** Firing demands become resolved: held until their hook's stabilisation time is over. */
export async function resolveDemands(
  q: Queryable,
  ids: readonly string[],
): Promise<ChangedDemand[]> {
  if (ids.length === 0) return [];
  return resolveWhere(q, sql`d.id = ${anyOf(ids)}`);
}

/** The same for all of a hook. */
export async function resolveDemandsOfHook(q: Queryable, hookId: string): Promise<ChangedDemand[]> {
  return resolveWhere(q, sql`d.hook_id = ${hookId}`);
}

async function resolveWhere(q: Queryable, condition: SQL): Promise<ChangedDemand[]> {
  return rowsOf(
    q,
    sql`update demands d set state = 'resolved', resolved_at = now(),
          release_at = now() + make_interval(secs => h.stabilisation_seconds::float8)
        from hooks h where h.id = d.hook_id and d.state = 'firing' and ${condition}
        returning ${changedColumns}`,
  );
}

/** Demands whose alert fires again are held again, with what they wanted. */
export async function reopenDemands(
  q: Queryable,
  ids: readonly string[],
): Promise<ChangedDemand[]> {
  if (ids.length === 0) return [];
  return rowsOf(
    q,
    sql`update demands d set state = 'firing', resolved_at = null, release_at = null
        from hooks h where h.id = d.hook_id and d.state <> 'firing'
          and d.id = ${anyOf(ids)}
        returning ${changedColumns}`,
  );
}

/** Releases resolved demands of a locked service whose time is over. */
export async function releaseDueDemandsOfService(
  q: Queryable,
  serviceId: string,
): Promise<ChangedDemand[]> {
  return rowsOf(
    q,
    sql`update demands d set state = 'released' from hooks h
        where h.id = d.hook_id and d.service_id = ${serviceId} and d.state = 'resolved' and d.release_at <= now()
        returning ${changedColumns}`,
  );
}

/**
 * The same across services, at most `limit`, passing over what others are changing just now. Takes no service's lock,
 * and waits for nobody, so it cannot be part of a deadlock. (Index demands_due.)
 */
export async function releaseDueDemands(q: Queryable, limit: number): Promise<ChangedDemand[]> {
  return rowsOf(
    q,
    sql`update demands d set state = 'released' from hooks h
        where h.id = d.hook_id and d.id in (
          select id from demands where state = 'resolved' and release_at <= now()
          order by release_at limit ${limit} for update skip locked)
        returning ${changedColumns}`,
  );
}

/** Releases one demand of a service by hand; its end is not noted, as nobody delivered one. Undefined: it has none of this id that is held. */
export async function releaseDemand(
  q: Queryable,
  serviceId: string,
  demandId: string,
): Promise<ChangedDemand | undefined> {
  const rows = await rowsOf<ChangedDemand>(
    q,
    sql`update demands d set state = 'released', release_at = now()
        from hooks h
        where h.id = d.hook_id and d.id = ${demandId} and d.service_id = ${serviceId} and d.state <> 'released'
        returning ${changedColumns}`,
  );
  return rows[0];
}

export interface HeldDemandRow {
  id: string;
  hook: string;
  key: string;
  labels: Record<string, string>;
  state: "firing" | "resolved";
  wantedReplicas: number;
  startedAt: string;
  releaseAt: string | null;
}

/** The `limit` largest demands that a service is held by, and how many there are. (Index demands_held.) */
export async function listHeldDemands(
  q: Queryable,
  serviceId: string,
  limit: number,
): Promise<{ demands: HeldDemandRow[]; total: number }> {
  const rows = await rowsOf<
    Omit<HeldDemandRow, "startedAt" | "releaseAt"> & {
      startedAtMs: number;
      releaseAtMs: number | null;
      total: number;
    }
  >(
    q,
    sql`select d.id, h.name as hook, d.key, d.labels, d.state, d.wanted_replicas as "wantedReplicas",
          ${epochMs(sql`d.started_at`)} as "startedAtMs", ${epochMs(sql`d.release_at`)} as "releaseAtMs",
          (count(*) over ())::int as total
        from demands d join hooks h on h.id = d.hook_id
        where d.service_id = ${serviceId} and d.state <> 'released'
        order by d.wanted_replicas desc, d.started_at, d.id limit ${limit}`,
  );
  return {
    demands: rows.map(({ startedAtMs, releaseAtMs, total: _total, ...row }) => ({
      ...row,
      startedAt: toIso(startedAtMs),
      releaseAt: releaseAtMs === null ? null : toIso(releaseAtMs),
    })),
    total: rows[0]?.total ?? 0,
  };
}

type DemandRow = Omit<Demand, "startedAt" | "resolvedAt" | "releaseAt"> & {
  startedAtMs: number;
  resolvedAtMs: number | null;
  releaseAtMs: number | null;
};

const demandColumns = sql`d.id, h.name as hook, d.key, d.labels, d.state, d.wanted_replicas as "wantedReplicas",
  d.base_replicas as "baseReplicas", ${epochMs(sql`d.started_at`)} as "startedAtMs",
  ${epochMs(sql`d.resolved_at`)} as "resolvedAtMs", ${epochMs(sql`d.release_at`)} as "releaseAtMs"`;

/** Newest first, before `beforeId`; released ones too, until they are forgotten. (Index demands_service.) */
export async function listDemands(
  q: Queryable,
  serviceId: string,
  beforeId: string | undefined,
  limit: number,
): Promise<Demand[]> {
  const before = beforeId === undefined ? sql`true` : sql`d.id < ${beforeId}`;
  const rows = await rowsOf<DemandRow>(
    q,
    sql`select ${demandColumns} from demands d join hooks h on h.id = d.hook_id
        where d.service_id = ${serviceId} and ${before} order by d.id desc limit ${limit}`,
  );
  return rows.map(toDemand);
}

export async function findDemand(
  q: Queryable,
  serviceId: string,
  demandId: string,
): Promise<Demand | undefined> {
  const rows = await rowsOf<DemandRow>(
    q,
    sql`select ${demandColumns} from demands d join hooks h on h.id = d.hook_id
        where d.service_id = ${serviceId} and d.id = ${demandId}`,
  );
  return rows.map(toDemand)[0];
}

/** Forgets demands released longer ago than `ageSeconds`, at most `limit`. (Index demands_released.) */
export async function deleteReleasedDemands(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`delete from demands where id in (
          select id from demands
          where state = 'released' and release_at < now() - make_interval(secs => ${ageSeconds}::float8)
          order by release_at limit ${limit})
        returning id`,
  );
  return rows.length;
}

/**
 * Live services whose size is not what people and held demands make it, at most `limit`. Chosen at random, so that some
 * that cannot have what they want (a quota) never keep the others from their turn.
 */
export async function listUndecidedServices(q: Queryable, limit: number): Promise<string[]> {
  const rows = await rowsOf<{ id: string }>(
    q,
    sql`select s.id from services s
        left join (select service_id, max(wanted_replicas) as wanted from demands
                   where state <> 'released' group by service_id) d on d.service_id = s.id
        where s.deleted_at is null and not s.deleting and s.autoscale is not null
          and s.desired_replicas <> least(greatest(s.replicas, coalesce(d.wanted, 0), (s.autoscale->>'min')::int),
            (s.autoscale->>'max')::int)
        order by random() limit ${limit}`,
  );
  return rows.map((row) => row.id);
}

function toDemand({ startedAtMs, resolvedAtMs, releaseAtMs, ...row }: DemandRow): Demand {
  return {
    ...row,
    startedAt: toIso(startedAtMs),
    resolvedAt: resolvedAtMs === null ? null : toIso(resolvedAtMs),
    releaseAt: releaseAtMs === null ? null : toIso(releaseAtMs),
  };
}

function toIso(epochMs: number): string {
  return new Date(epochMs).toISOString();
}
