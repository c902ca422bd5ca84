import { sql } from "drizzle-orm";
import type { Decision } from "../../../contracts/api/autoscaling.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, queryRows } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

export interface NewDecision extends Omit<Decision, "service" | "at"> {
  tenantId: string;
  serviceId: string;
}

export async function insertDecision(q: Queryable, decision: NewDecision): Promise<void> {
  await q.execute(sql`
    insert into decisions (id, tenant_id, service_id, from_replicas, to_replicas, acted, because, generation)
    values (${decision.id}, ${decision.tenantId}, ${decision.serviceId}, ${decision.fromReplicas}, ${decision.toReplicas},
      ${decision.acted}, ${JSON.stringify(decision.because)}::jsonb, ${decision.generation})`);
}

export interface LastDecision extends Pick<Decision, "toReplicas" | "because"> {
  ageMs: number;
}

/** A service's newest decision, and its age by the database clock. (Index decisions_service.) */
export async function findLastDecision(
  q: Queryable,
  serviceId: string,
): Promise<LastDecision | undefined> {
  const rows = await queryRows<LastDecision>(
    q,
    sql`select to_replicas as "toReplicas", because, (extract(epoch from now() - at) * 1000)::float8 as "ageMs" from decisions
        where service_id = ${serviceId} order by id desc limit 1`,
  );
  return rows[0];
}

/** Newest first, before `beforeId`; of deleted services too. */
export async function listDecisions(
  q: Queryable,
  scope: string | null,
  service: string | undefined,
  beforeId: string | undefined,
  limit: number,
): Promise<Decision[]> {
  const conditions = [inScope(sql`d.tenant_id`, scope)];
  if (beforeId !== undefined) conditions.push(sql`d.id < ${beforeId}`);
  if (service !== undefined) {
    conditions.push(
      sql`d.service_id in (select id from services x where x.name = ${service} and ${inScope(sql`x.tenant_id`, scope)})`,
    );
  }
  const rows = await queryRows<Decision & { at: string | Date }>(
    q,
    sql`select d.id, s.name as service, d.at, d.from_replicas as "fromReplicas", d.to_replicas as "toReplicas", d.acted,
          d.because, d.generation::float8 as generation
        from decisions d join services s on s.id = d.service_id
        where ${sql.join(conditions, sql` and `)} order by d.id desc limit ${limit}`,
  );
  return rows.map((row) => ({ ...row, at: isoTime(row.at) }));
}

/**
 * Deletes decisions older than `ageSeconds`. It reads the oldest `limit` only, so a call is
 * bounded.
 */
export async function deleteDecisions(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`delete from decisions where id in (select id from decisions order by id limit ${limit})
          and at < now() - make_interval(secs => ${ageSeconds}::float8)
        returning id`,
  );
  return rows.length;
}
