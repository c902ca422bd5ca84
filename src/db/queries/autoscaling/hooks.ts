import { sql } from "drizzle-orm";
import type { Hook, HookRule } from "../../../contracts/api/autoscaling.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, queryRows } from "../runtime/query.ts";

/** A hook as deliveries read it. */
export interface HookRow {
  id: string;
  tenantId: string;
  serviceId: string;
  name: string;
  rules: HookRule[];
  stabilizationSeconds: number;
}

/** Finds a hook, unless it or its service is deleted or being deleted. */
export async function findHook(q: Queryable, hookId: string): Promise<HookRow | undefined> {
  const rows = await queryRows<HookRow>(
    q,
    sql`select h.id, h.tenant_id as "tenantId", h.service_id as "serviceId", h.name, h.rules,
          h.stabilisation_seconds as "stabilizationSeconds"
        from hooks h join services s on s.id = h.service_id
        where h.id = ${hookId} and h.deleted_at is null and s.deleted_at is null and not s.deleting`,
  );
  return rows[0];
}

/** Throws already-exists (hooks_name_unique). */
export async function insertHook(q: Queryable, hook: HookRow): Promise<string> {
  const rows = await queryRows<{ createdAt: string | Date }>(
    q,
    sql`insert into hooks (id, tenant_id, service_id, name, rules, stabilisation_seconds)
        values (${hook.id}, ${hook.tenantId}, ${hook.serviceId}, ${hook.name}, ${JSON.stringify(hook.rules)}::jsonb,
          ${hook.stabilizationSeconds})
        returning created_at as "createdAt"`,
  );
  return isoTime(rows[0]?.createdAt ?? "");
}

export async function countHooks(q: Queryable, serviceId: string): Promise<number> {
  const rows = await queryRows<{ count: number }>(
    q,
    sql`select count(*)::int as count from hooks where service_id = ${serviceId} and deleted_at is null`,
  );
  return rows[0]?.count ?? 0;
}

const hookColumns = sql`id, name, rules, stabilisation_seconds as "stabilizationSeconds", created_at as "createdAt"`;

export type HookReadRow = Omit<Hook, "paths" | "service">;

/** Oldest first, after `afterId`. */
export async function listHooks(
  q: Queryable,
  serviceId: string,
  afterId: string | undefined,
  limit: number,
): Promise<HookReadRow[]> {
  const rows = await queryRows<HookReadRow & { createdAt: string | Date }>(
    q,
    sql`select ${hookColumns}
        from hooks where service_id = ${serviceId} and deleted_at is null and id > ${afterId ?? ""}
        order by id limit ${limit}`,
  );
  return rows.map((row) => ({ ...row, createdAt: isoTime(row.createdAt) }));
}

/**
 * Changes a hook of the service. Omitted members do not change. Returns undefined if the service
 * has no such hook.
 */
export async function updateHook(
  q: Queryable,
  serviceId: string,
  hookId: string,
  change: { rules?: HookRule[] | undefined; stabilizationSeconds?: number | undefined },
): Promise<HookReadRow | undefined> {
  const rows = await queryRows<HookReadRow & { createdAt: string | Date }>(
    q,
    sql`update hooks set
          rules = coalesce(${change.rules === undefined ? null : JSON.stringify(change.rules)}::jsonb, rules),
          stabilisation_seconds = coalesce(${change.stabilizationSeconds ?? null}::int, stabilisation_seconds)
        where id = ${hookId} and service_id = ${serviceId} and deleted_at is null
        returning ${hookColumns}`,
  );
  return rows.map((row) => ({ ...row, createdAt: isoTime(row.createdAt) }))[0];
}

/**
 * Marks a hook of the service as deleted and revokes its tokens. Returns false if the service has
 * no such hook.
 */
export async function deleteHook(
  q: Queryable,
  serviceId: string,
  hookId: string,
): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with deleted as (
          update hooks set deleted_at = now()
          where id = ${hookId} and service_id = ${serviceId} and deleted_at is null returning id
        ), refused as (
          update tokens set revoked_at = now() where hook_id in (select id from deleted) and revoked_at is null
        )
        select id from deleted`,
  );
  return rows.length > 0;
}

/** Claims the report of omitted alerts of a hook. Returns true at most once in `everySeconds`. */
export async function claimTruncationReport(
  q: Queryable,
  hookId: string,
  everySeconds: number,
): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`update hooks set truncated_at = now() where id = ${hookId} and deleted_at is null
          and coalesce(truncated_at < now() - make_interval(secs => ${everySeconds}::float8), true)
        returning id`,
  );
  return rows.length > 0;
}

/** The id of a tenant's live service, read without a lock. */
export async function findServiceId(
  q: Queryable,
  tenantId: string,
  name: string,
): Promise<string | undefined> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select id from services where tenant_id = ${tenantId} and name = ${name} and deleted_at is null`,
  );
  return rows[0]?.id;
}
