import { and, desc, eq, inArray, lt, sql } from "drizzle-orm";
import type { Decision } from "../../../contracts/api/autoscaling.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { decisions } from "../../schema/autoscaling.ts";
import { services } from "../../schema/services.ts";
import { inScope } from "../services/read-services.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { secondsAgo } from "../runtime/query.ts";

export interface NewDecision extends Omit<Decision, "service" | "at"> {
  tenantId: string;
  serviceId: string;
}

export async function insertDecision(q: Queryable, decision: NewDecision): Promise<void> {
  await q.execute(insertInto(decisions, decision));
}

export interface LastDecision extends Pick<Decision, "toReplicas" | "because"> {
  ageMs: number;
}

/** A service's newest decision, and its age by the database clock. (Index decisions_service.) */
export async function findLastDecision(
  q: Queryable,
  serviceId: string,
): Promise<LastDecision | undefined> {
  const rows = await q
    .select({
      toReplicas: decisions.toReplicas,
      because: decisions.because,
      ageMs: sql<number>`(extract(epoch from now() - ${decisions.at}) * 1000)::float8`,
    })
    .from(decisions)
    .where(eq(decisions.serviceId, serviceId))
    .orderBy(desc(decisions.id))
    .limit(1);
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
  const named =
    service === undefined
      ? undefined
      : q
          .select({ id: services.id })
          .from(services)
          .where(and(eq(services.name, service), inScope(services.tenantId, scope)));
  const rows = await q
    .select({
      id: decisions.id,
      service: services.name,
      at: decisions.at,
      fromReplicas: decisions.fromReplicas,
      toReplicas: decisions.toReplicas,
      acted: decisions.acted,
      because: decisions.because,
      generation: decisions.generation,
    })
    .from(decisions)
    .innerJoin(services, eq(services.id, decisions.serviceId))
    .where(
      and(
        inScope(decisions.tenantId, scope),
        beforeId === undefined ? undefined : lt(decisions.id, beforeId),
        named && inArray(decisions.serviceId, named),
      ),
    )
    .orderBy(desc(decisions.id))
    .limit(limit);
  return rows.map((row) => ({ ...row, at: row.at.toISOString() }));
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
  const oldest = q.select({ id: decisions.id }).from(decisions).orderBy(decisions.id).limit(limit);
  const rows = await q
    .delete(decisions)
    .where(and(inArray(decisions.id, oldest), lt(decisions.at, secondsAgo(ageSeconds))))
    .returning({ id: decisions.id });
  return rows.length;
}
