import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { AgentRecord } from "../../schema/agent-record.ts";
import { queryRows } from "../runtime/query.ts";

export interface LockedAgentRecord {
  record: AgentRecord | null;
  /** The time of the database. */
  nowMs: number;
  isLeaseExpired: boolean;
}

/** Locks a host, and reads the record of its agent. */
export async function lockAgentRecord(
  tx: Queryable,
  hostId: string,
): Promise<LockedAgentRecord | undefined> {
  const rows = await queryRows<LockedAgentRecord>(
    tx,
    sql`select agent as record, (extract(epoch from clock_timestamp()) * 1000)::float8 as "nowMs",
          lease_expires_at < clock_timestamp() as "isLeaseExpired"
        from hosts where id = ${hostId} for no key update`,
  );
  return rows[0];
}

/**
 * Stores the record of the agent of a locked host. Without one, the next agent that syncs manages
 * the host. It changes no column that the planner reads.
 */
export async function updateAgentRecord(
  tx: Queryable,
  hostId: string,
  record: AgentRecord | null,
): Promise<void> {
  const json = record && JSON.stringify(record);
  await tx.execute(sql`update hosts set agent = ${json}::jsonb where id = ${hostId}`);
}
