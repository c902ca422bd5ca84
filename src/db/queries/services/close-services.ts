import { sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, runWrite } from "../runtime/query.ts";

/** A service whose deletion is complete, and the rules that named it. */
export interface ClosedService {
  id: string;
  tenantId: string;
  name: string;
  rules: { networkId: string; network: string; names: string[] }[];
}

/**
 * Finalizes at most `limit` deleted services, of `serviceIds` or of all. Returns them. A service is
 * final when its last set is absent, or is ordered deleted on a lost host. The order for such a set
 * stays: its host removes it when it returns.
 *
 * Deletes the rules that name the services: they were in force until here, for the last packet of
 * the last set. Uses rules_service and rules_peer_service.
 *
 * It skips locked services, and waits for the networks of the rules. It locks them before the
 * rules, as the deletion of a network does.
 */
export async function closeDeletedServices(
  q: Queryable,
  limit: number,
  serviceIds?: readonly string[],
): Promise<ClosedService[]> {
  return runWrite(
    q,
    sql`with closed as (
          update services set deleted_at = now(), updated_at = now() where id in (
            select id from services s where deleting and deleted_at is null
              and ${serviceIds === undefined ? sql`true` : sql`id = ${anyOf(serviceIds)}`}
              and not exists (select 1 from sets x left join hosts h on h.id = x.host_id
                where x.service_id = s.id and x.deleted_at is null and (x.desired <> 'deleted' or h.state is distinct from 'lost'))
            order by id limit ${limit} for no key update skip locked)
          returning id, tenant_id, name
        ), woken as (
          delete from rollout_wakes where service_id in (select id from closed)
        ), named as (
          select r.id, r.network_id, c.id as service_id from closed c join rules r on r.service_id = c.id
          union all select r.id, r.network_id, c.id from closed c join rules r on r.peer_service_id = c.id
        ), locked as materialized (
          select id from networks where id in (select network_id from named) order by id for no key update
        ), dropped as (
          delete from rules r using (select id, min(service_id) as service_id from named where network_id in (select id from locked) group by id) d
          where r.id = d.id returning r.network_id, r.name, d.service_id
        ), bumped as (
          update networks set rules_version = rules_version + 1 where id in (select network_id from dropped)
        )
        select c.id, c.tenant_id as "tenantId", c.name,
          (select coalesce(json_agg(json_build_object('networkId', n.id, 'network', n.name, 'names', d.names) order by n.id), '[]')
            from (select network_id, json_agg(name order by name) as names from dropped where service_id = c.id group by network_id) d
              join networks n on n.id = d.network_id) as rules
        from closed c`,
  );
}
