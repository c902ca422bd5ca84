import { and, eq, isNull, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { sets } from "../../schema/sets.ts";
import { booked, freed, claimSums } from "../hosts/bookings.ts";
import { anyOf, queryRows } from "../runtime/query.ts";
import { leavingSetSql } from "./operation-conditions.ts";

/** Capacity that a set needs on its next host, with its overhead. */
export interface NewClaim {
  setId: string;
  hostId: string;
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
  rootfsBytes: number;
}

/**
 * Books capacity for sets on hosts that the caller has locked and checked. Returns the sets with a
 * new claim. A set with an earlier claim is not among them.
 */
export async function insertClaims(
  q: Queryable,
  claims: readonly NewClaim[],
): Promise<Set<string>> {
  if (claims.length === 0) return new Set();
  const rows = await queryRows<{ id: string }>(
    q,
    sql`with stored as (
          insert into claims (set_id, host_id, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes)
          select "setId", "hostId", "cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"
          from json_to_recordset(${JSON.stringify(claims)}::json) as c("setId" text, "hostId" text, "cpuMillis" bigint,
            "memoryBytes" bigint, "volumeBytes" bigint, "rootfsBytes" bigint)
          on conflict (set_id) do nothing returning *
        ), booked as (
          update hosts h set generation = h.generation + 1, ${booked}
          from (select host_id, ${claimSums} from stored group by host_id) b
          where h.id = b.host_id
        )
        select set_id as id from stored`,
  );
  return new Set(rows.map(({ id }) => id));
}

/**
 * SQL condition: the set of claim `c` is still on its previous host. Any other claim has ended.
 */
const claimInUseSql = sql`exists (select 1 from sets s where s.id = c.set_id and s.host_id is not null and s.host_id <> c.host_id
  and s.desired <> 'deleted' and ${leavingSetSql})`;

/**
 * Lists hosts after `after` with claims whose sets no longer leave their previous hosts, in the
 * order of their ids.
 */
export async function listHostsWithEndedClaims(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct c.host_id as id from claims c where c.host_id > ${after} and not ${claimInUseSql} order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** A pending set whose claim has ended. */
export interface ClaimedSet {
  id: string;
  generation: number;
}

/**
 * Ends the claims on a host whose sets no longer leave their previous hosts. Returns the sets among
 * them that have to be placed now. The caller has locked the host.
 */
export async function endClaims(q: Queryable, hostId: string): Promise<ClaimedSet[]> {
  return queryRows(
    q,
    sql`with ended as (
          delete from claims c where c.host_id = ${hostId} and not ${claimInUseSql} returning *
        ), freed as (
          update hosts h set ${freed}
          from (select host_id, ${claimSums} from ended group by host_id) b
          where h.id = b.host_id
        )
        select s.id, s.generation::float8 as generation
        from ended e join sets s on s.id = e.set_id
        where s.state = 'pending' and s.host_id is null and s.deleted_at is null and s.desired <> 'deleted' order by s.id`,
  );
}

/** Makes pending sets due now, because their claims ended without a placement. */
export async function planSetsNow(q: Queryable, setIds: readonly string[]): Promise<void> {
  if (setIds.length === 0) return;
  await q
    .update(sets)
    .set({ planAfter: sql`now()` })
    .where(and(eq(sets.id, anyOf(setIds)), isNull(sets.hostId), isNull(sets.deletedAt)));
}
