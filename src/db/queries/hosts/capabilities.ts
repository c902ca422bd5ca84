import { sql } from "drizzle-orm";
import {
  listFeaturesOf,
  type TemplateMembers,
} from "../../../contracts/agent-protocol/agent-features.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { StoredCapabilities } from "../../schema/agent-record.ts";
import { queryRows } from "../runtime/query.ts";

/** Locks a host, and reads its stored capabilities. Undefined for a deleted host. */
export async function lockCapabilities(
  tx: Queryable,
  hostId: string,
): Promise<{ capabilities: StoredCapabilities | null } | undefined> {
  const rows = await queryRows<{ capabilities: StoredCapabilities | null }>(
    tx,
    sql`select capabilities from hosts where id = ${hostId} for no key update`,
  );
  return rows[0];
}

/** Stores the capabilities of a locked host. The planner reads them with its next refresh. */
export async function storeCapabilities(
  tx: Queryable,
  hostId: string,
  capabilities: StoredCapabilities | null,
): Promise<void> {
  const json = capabilities && JSON.stringify(capabilities);
  await tx.execute(sql`update hosts set capabilities = ${json}::jsonb where id = ${hostId}`);
}

/** Counts the sets of a host whose templates need one of these features. */
export async function countSetsThatNeed(
  q: Queryable,
  hostId: string,
  features: readonly string[],
): Promise<number> {
  const rows = await queryRows<TemplateMembers & { sets: number }>(
    q,
    sql`select w.sets, array_to_json(array(select jsonb_object_keys(r.template))) as members,
          array_to_json(array(select distinct jsonb_object_keys(c->'options') from jsonb_array_elements(r.template->'containers') c)) as options,
          r.template->'networks' as networks, r.template->'ports' as ports
        from (select service_id, revision, count(*)::int as sets from sets where host_id = ${hostId} group by 1, 2) w
          join revisions r on r.service_id = w.service_id and r.number = w.revision`,
  );
  return rows
    .filter((row) => listFeaturesOf(row).some((feature) => features.includes(feature)))
    .reduce((sum, { sets }) => sum + sets, 0);
}

/** Counts the hosts whose last self test failed, except lost ones. */
export async function countFailedSelfTests(q: Queryable): Promise<number> {
  const [row] = await queryRows<{ hosts: number }>(
    q,
    sql`select count(*)::int as hosts from hosts where capabilities->'selfTest'->>'state' = 'failed' and state <> 'lost'`,
  );
  return row?.hosts ?? 0;
}
