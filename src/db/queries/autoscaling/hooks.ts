import { and, count, eq, gt, isNull, not, sql } from "drizzle-orm";
import type { Hook, HookRule } from "../../../contracts/api/autoscaling.ts";
import { assert } from "../../../lib/assert.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hooks } from "../../schema/autoscaling.ts";
import { services } from "../../schema/services.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { isoTime, queryRows, secondsAgo } from "../runtime/query.ts";

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
  const { id, tenantId, serviceId, name, rules, stabilizationSeconds } = hooks;
  const rows = await q
    .select({ id, tenantId, serviceId, name, rules, stabilizationSeconds })
    .from(hooks)
    .innerJoin(services, eq(services.id, serviceId))
    .where(
      and(
        eq(id, hookId),
        isNull(hooks.deletedAt),
        isNull(services.deletedAt),
        not(services.deleting),
      ),
    );
  return rows[0];
}

/** Throws already-exists (hooks_name_unique). */
export async function insertHook(q: Queryable, hook: HookRow): Promise<string> {
  const [row] = await queryRows<{ createdAt: string | Date }>(
    q,
    sql`${insertInto(hooks, hook)} returning created_at as "createdAt"`,
  );
  assert(row, "an insert without a conflict clause returns its row");
  return isoTime(row.createdAt);
}

export async function countHooks(q: Queryable, serviceId: string): Promise<number> {
  const rows = await q
    .select({ count: count() })
    .from(hooks)
    .where(and(eq(hooks.serviceId, serviceId), isNull(hooks.deletedAt)));
  return rows[0]?.count ?? 0;
}

const hookColumns = {
  id: hooks.id,
  name: hooks.name,
  rules: hooks.rules,
  stabilizationSeconds: hooks.stabilizationSeconds,
  createdAt: hooks.createdAt,
};

export type HookReadRow = Omit<Hook, "paths" | "service">;

/** Oldest first, after `afterId`. */
export async function listHooks(
  q: Queryable,
  serviceId: string,
  afterId: string | undefined,
  limit: number,
): Promise<HookReadRow[]> {
  const rows = await q
    .select(hookColumns)
    .from(hooks)
    .where(
      and(eq(hooks.serviceId, serviceId), isNull(hooks.deletedAt), gt(hooks.id, afterId ?? "")),
    )
    .orderBy(hooks.id)
    .limit(limit);
  return rows.map((row) => ({ ...row, createdAt: row.createdAt.toISOString() }));
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
  const rows = await q
    .update(hooks)
    .set({ id: hookId, ...change }) // a statement without a change would be invalid
    .where(and(eq(hooks.id, hookId), eq(hooks.serviceId, serviceId), isNull(hooks.deletedAt)))
    .returning(hookColumns);
  return rows.map((row) => ({ ...row, createdAt: row.createdAt.toISOString() }))[0];
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
          and coalesce(truncated_at < ${secondsAgo(everySeconds)}, true)
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
  const rows = await q
    .select({ id: services.id })
    .from(services)
    .where(
      and(eq(services.tenantId, tenantId), eq(services.name, name), isNull(services.deletedAt)),
    );
  return rows[0]?.id;
}
