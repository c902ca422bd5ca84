import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows } from "../runtime/query.ts";

/** The credentials of a locked host, and its requested rotation. */
export interface LockedCredentials {
  name: string;
  credentialHash: string;
  nextCredentialHash: string | null;
  isRotationRequested: boolean;
  /** The features of the agent. Null for an agent of an earlier release. */
  features: string[] | null;
}

/** Locks a host for a step of the rotation of its credential. */
export async function lockHostCredentials(
  tx: Queryable,
  hostId: string,
): Promise<LockedCredentials | undefined> {
  const rows = await queryRows<LockedCredentials>(
    tx,
    sql`select name, credential_hash as "credentialHash", next_credential_hash as "nextCredentialHash",
          rotation_requested_at is not null as "isRotationRequested", capabilities->'features' as features
        from hosts where id = ${hostId} for no key update`,
  );
  return rows[0];
}

/** Requests the rotation of the credential of a locked host. */
export async function requestRotation(tx: Queryable, hostId: string): Promise<void> {
  await tx.execute(sql`update hosts set rotation_requested_at = now() where id = ${hostId}`);
}

/** Stores the next credential of a locked host. It replaces one that the agent has not used. */
export async function storeNextCredential(
  tx: Queryable,
  hostId: string,
  nextCredentialHash: string,
): Promise<void> {
  await tx.execute(
    sql`update hosts set next_credential_hash = ${nextCredentialHash} where id = ${hostId}`,
  );
}

/**
 * Makes a next credential the only one of its host, and ends the rotation. Returns undefined, and
 * changes nothing, if another transaction has locked the host, or if no host has this next
 * credential. (Index hosts_next_credential_hash_unique.)
 */
export async function promoteNextCredential(
  tx: Queryable,
  nextCredentialHash: string,
): Promise<{ hostId: string; name: string } | undefined> {
  const rows = await queryRows<{ hostId: string; name: string }>(
    tx,
    sql`with due as materialized (
          select id from hosts where next_credential_hash = ${nextCredentialHash} for no key update skip locked
        )
        update hosts h set credential_hash = h.next_credential_hash, next_credential_hash = null,
          rotation_requested_at = null, credential_replaced_at = now()
        from due where h.id = due.id returning h.id as "hostId", h.name`,
  );
  return rows[0];
}
