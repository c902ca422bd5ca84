import { and, eq, gt, isNull, or, sql } from "drizzle-orm";
import type { Token, TokenRole } from "../../../contracts/api/tenancy.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { tenants, tokens } from "../../schema/tenancy.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { isoTime, queryRows, readByKey, secondsFromNow } from "../runtime/query.ts";

export interface NewToken {
  id: string;
  name: string;
  role: TokenRole;
  tenantId: string | null;
  /** The hook of a hook token. */
  hookId: string | null;
  /** The host pool of an enroll token. */
  pool: string | null;
  secretHash: string;
  expiresInSeconds: number | null;
}

/** Inserts a token, unless a token with this secret exists. */
export async function insertToken(
  q: Queryable,
  { expiresInSeconds, ...token }: NewToken,
): Promise<void> {
  const values = { ...token, expiresAt: secondsFromNow(expiresInSeconds) };
  await q.execute(sql`${insertInto(tokens, values)} on conflict (secret_hash) do nothing`);
}

export interface CallerRow {
  tokenId: string;
  role: TokenRole;
  tenantId: string | null;
  hookId: string | null;
  pool: string | null;
}

/** Finds the caller of a secret. Returns undefined for an unknown, revoked or expired token. */
export async function findCallerBySecretHash(
  q: Queryable,
  secretHash: string,
): Promise<CallerRow | undefined> {
  const rows = await readByKey<CallerRow>(
    q,
    sql`select id as "tokenId", role, tenant_id as "tenantId", hook_id as "hookId", pool from tokens
        where secret_hash = ${secretHash} and revoked_at is null and (expires_at is null or expires_at > now())`,
  );
  return rows[0];
}

const isValid = and(
  isNull(tokens.revokedAt),
  or(isNull(tokens.expiresAt), gt(tokens.expiresAt, sql`now()`)),
);

function selectTokens(q: Queryable) {
  const { id, name, role, createdAt, expiresAt, revokedAt, usedAt } = tokens;
  return q
    .select({ id, name, role, tenant: tenants.name, createdAt, expiresAt, revokedAt, usedAt })
    .from(tokens)
    .leftJoin(tenants, eq(tenants.id, tokens.tenantId));
}

export async function findToken(q: Queryable, id: string): Promise<Token | undefined> {
  const rows = await selectTokens(q).where(eq(tokens.id, id));
  return rows.map(toToken)[0];
}

/** Lists tokens after `afterId`, the oldest first. */
export async function listTokens(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Token[]> {
  const rows = await selectTokens(q)
    .where(gt(tokens.id, afterId ?? ""))
    .orderBy(tokens.id)
    .limit(limit);
  return rows.map(toToken);
}

/**
 * Revokes a token. Returns false if it was already revoked, and undefined if it does not exist.
 */
export async function updateTokenRevoked(q: Queryable, id: string): Promise<boolean | undefined> {
  const rows = await queryRows<{ revoked: boolean }>(
    q,
    sql`with old as (select id, revoked_at from tokens where id = ${id} for update)
        update tokens t set revoked_at = coalesce(t.revoked_at, now()) from old where t.id = old.id
        returning old.revoked_at is null as revoked`,
  );
  return rows[0]?.revoked;
}

export interface LockedTokenRow {
  name: string;
  role: TokenRole;
  tenantId: string | null;
  /** The lifetime with which an unrotated token was created. Null if it does not expire. */
  lifetimeSeconds: number | null;
  isValid: boolean;
  successorId: string | null;
}

/** Locks a token, so that concurrent rotations see each other's successor. */
export async function lockToken(q: Queryable, id: string): Promise<LockedTokenRow | undefined> {
  const rows = await q
    .select({
      name: tokens.name,
      role: tokens.role,
      tenantId: tokens.tenantId,
      successorId: tokens.successorId,
      lifetimeSeconds: sql<number | null>`extract(epoch from expires_at - created_at)::float8`,
      isValid: sql<boolean>`${isValid}`,
    })
    .from(tokens)
    .where(eq(tokens.id, id))
    .for("update");
  return rows[0];
}

/** Stores the successor of a locked token, which expires after `overlapSeconds` or earlier. */
export async function updateTokenRotated(
  q: Queryable,
  id: string,
  successorId: string,
  overlapSeconds: number,
): Promise<void> {
  await q
    .update(tokens)
    .set({ successorId, expiresAt: sql`least(expires_at, ${secondsFromNow(overlapSeconds)})` })
    .where(eq(tokens.id, id));
}

/**
 * Lets the newest valid token of a hook expire after `overlapSeconds`, and the others immediately.
 * So a hook has at most two valid tokens. Returns the time of expiry.
 */
export async function endHookTokens(
  q: Queryable,
  hookId: string,
  overlapSeconds: number,
): Promise<string> {
  const end = secondsFromNow(overlapSeconds);
  const rows = await queryRows<{ endsAt: string | Date }>(
    q,
    sql`with valid as (
          select id, row_number() over (order by created_at desc, id desc) as position from tokens
          where hook_id = ${hookId} and revoked_at is null and (expires_at is null or expires_at > now())
        ), ended as (
          update tokens t set expires_at = least(t.expires_at, case v.position when 1 then ${end} else now() end)
          from valid v where t.id = v.id
        )
        select ${end} as "endsAt"`,
  );
  return isoTime(rows[0]?.endsAt ?? "");
}

/** Whether a valid admin token exists. */
export async function hasAdminToken(q: Queryable): Promise<boolean> {
  const rows = await q
    .select({ id: tokens.id })
    .from(tokens)
    .where(and(eq(tokens.role, "admin"), isValid))
    .limit(1);
  return rows.length === 1;
}

function toToken(row: Awaited<ReturnType<typeof selectTokens>>[number]): Token {
  return {
    ...row,
    createdAt: row.createdAt.toISOString(),
    expiresAt: row.expiresAt?.toISOString() ?? null,
    revokedAt: row.revokedAt?.toISOString() ?? null,
    usedAt: row.usedAt?.toISOString() ?? null,
  };
}
