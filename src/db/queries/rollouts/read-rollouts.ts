import { type SQL, sql } from "drizzle-orm";
import type { Rollout } from "../../../contracts/api/rollout-answers.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, isoTimeOrNull, queryRows } from "../runtime/query.ts";

/** The sets in the answer about a rollout. */
const SETS_MAX = 100;

type Times = "startedAt" | "stepBeganAt" | "endedAt";
type RolloutReadRow = Omit<Rollout, Times | "createdAt"> &
  Record<Times, string | Date | null> & { createdAt: string | Date };

/** SQL expression: the sets of rollout `r` in progress, then failed ones. */
const rolloutSetsSql = sql`(select coalesce(json_agg(json_build_object('setId', x.set_id, 'replacementSetId', x.replacement_set_id,
    'step', x.step + 1, 'method', x.method, 'direction', x.direction,
    'beganAt', to_char(x.began_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'outcome', x.outcome, 'reason', x.reason)
    order by x.ended_at is not null, x.set_id), '[]')
  from (select * from rollout_sets where rollout_id = r.id and (ended_at is null or outcome = 'failed')
    order by ended_at is not null, set_id limit ${sql.raw(String(SETS_MAX))}) x)`;

function rolloutsWhere(condition: SQL): SQL {
  return sql`select v.name as service, r.number, r.kind, r.state, r.phase, r.from_revision as "fromRevision", r.to_revision as "toRevision",
      r.step + 1 as step, jsonb_array_length(r.strategy->'steps') as steps, r.selection, r.reason, r.message,
      r.requested_by as "requestedBy", r.changed_by as "changedBy", r.created_at as "createdAt", r.started_at as "startedAt",
      r.step_began_at as "stepBeganAt", r.ended_at as "endedAt", ${rolloutSetsSql} as sets,
      (select json_build_object('sets', count(*), 'updated', count(*) filter (where s.revision = r.to_revision),
          'ready', count(*) filter (where s.revision = r.to_revision and s.ready),
          'updating', (select count(*) from rollout_sets u where u.rollout_id = r.id and u.ended_at is null),
          'failed', (select count(*) from rollout_sets f where f.rollout_id = r.id and f.outcome = 'failed'))
        from sets s where s.service_id = r.service_id and s.deleted_at is null and s.desired <> 'deleted') as counts
    from rollouts r join services v on v.id = r.service_id
    where v.deleted_at is null and ${condition}`;
}

/** Finds a rollout of a service by its number. */
export async function findRollout(
  q: Queryable,
  tenantId: string,
  service: string,
  number: number,
): Promise<Rollout | undefined> {
  const rows = await queryRows<RolloutReadRow>(
    q,
    rolloutsWhere(sql`v.tenant_id = ${tenantId} and v.name = ${service} and r.number = ${number}`),
  );
  return rows.map(toRollout)[0];
}

/** Lists the rollouts of a service before the number `before`, the newest first. */
export async function listRollouts(
  q: Queryable,
  tenantId: string,
  service: string,
  before: number | undefined,
  limit: number,
): Promise<Rollout[]> {
  const isBefore = before === undefined ? sql`true` : sql`r.number < ${before}`;
  const rows = await queryRows<RolloutReadRow>(
    q,
    sql`${rolloutsWhere(sql`v.tenant_id = ${tenantId} and v.name = ${service} and ${isBefore}`)}
        order by r.number desc limit ${limit}`,
  );
  return rows.map(toRollout);
}

function toRollout(row: RolloutReadRow): Rollout {
  return {
    ...row,
    createdAt: isoTime(row.createdAt),
    startedAt: isoTimeOrNull(row.startedAt),
    stepBeganAt: isoTimeOrNull(row.stepBeganAt),
    endedAt: isoTimeOrNull(row.endedAt),
  };
}
