import { sql } from "drizzle-orm";
import type { Token, TokenRole } from "../../../contracts/api/tenancy.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, isoTimeOrNull, readByKey, queryRows } from "../runtime/query.ts";

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
export async function insertToken(q: Queryable, token: NewToken): Promise<void> {
  await q.execute(sql`
    insert into tokens (id, name, role, tenant_id, hook_id, pool, secret_hash, expires_at)
    values (${token.id}, ${token.name}, ${token.role}, ${token.tenantId}, ${token.hookId}, ${token.pool}, ${token.secretHash},
      now() + make_interval(secs => ${token.expiresInSeconds}::float8))
    on conflict (secret_hash) do nothing`);
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

interface TokenTimes {
  createdAt: string | Date;
  expiresAt: string | Date | null;
  revokedAt: string | Date | null;
  usedAt: string | Date | null;
}
type TokenRow = Omit<Token, keyof TokenTimes> & TokenTimes;

const tokenColumns = sql`t.id, t.name, t.role, n.name as tenant, t.created_at as "createdAt", t.expires_at as "expiresAt",
  t.revoked_at as "revokedAt", t.used_at as "usedAt"`;

export async function findToken(q: Queryable, id: string): Promise<Token | undefined> {
  const rows = await queryRows<TokenRow>(
    q,
    sql`select ${tokenColumns} from tokens t left join tenants n on n.id = t.tenant_id where t.id = ${id}`,
  );
  return rows.map(toToken)[0];
}

/** Lists tokens after `afterId`, the oldest first. */
export async function listTokens(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Token[]> {
  const rows = await queryRows<TokenRow>(
    q,
    sql`select ${tokenColumns} from tokens t left join tenants n on n.id = t.tenant_id
        where t.id > ${afterId ?? ""} order by t.id limit ${limit}`,
  );
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
  const rows = await queryRows<LockedTokenRow>(
    q,
    sql`select name, role, tenant_id as "tenantId", successor_id as "successorId",
          extract(epoch from expires_at - created_at)::float8 as "lifetimeSeconds",
          revoked_at is null and (expires_at is null or expires_at > now()) as "isValid"
        from tokens where id = ${id} for update`,
  );
  return rows[0];
}

/** Stores the successor of a locked token, which expires after `overlapSeconds` or earlier. */
export async function updateTokenRotated(
  q: Queryable,
  id: string,
  successorId: string,
  overlapSeconds: number,
): Promise<void> {
  await q.execute(sql`
    update tokens set successor_id = ${successorId},
      expires_at = least(expires_at, now() + make_interval(secs => ${overlapSeconds}::float8))
    where id = ${id}`);
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
  const end = sql`now() + make_interval(secs => ${overlapSeconds}::float8)`;
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
  const rows = await queryRows<{ exists: boolean }>(
    q,
    sql`select exists (select 1 from tokens where role = 'admin' and revoked_at is null
          and (expires_at is null or expires_at > now())) as exists`,
  );
  return rows[0]?.exists ?? false;
}

function toToken(row: TokenRow): Token {
  return {
    ...row,
    createdAt: isoTime(row.createdAt),
    expiresAt: isoTimeOrNull(row.expiresAt),
    revokedAt: isoTimeOrNull(row.revokedAt),
    usedAt: isoTimeOrNull(row.usedAt),
  };
}
