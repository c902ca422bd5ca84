import { sql } from "drizzle-orm";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { serviceBody, type FleetContext, type HostOptions } from "./fleet-context.ts";
import { setFeatures } from "./network-hosts.ts";

type Publish = true | { hostPort: number };

/** Enrolls a host whose agent publishes ports. */
export async function enrollPublishing(
  f: FleetContext,
  name: string,
  options?: HostOptions,
  features: readonly string[] = [],
): Promise<string> {
  const hostId = await f.enroll(name, options);
  await setFeatures(f, hostId, ["ports", "published-ports", ...features]);
  return hostId;
}

/** A service whose sets publish these ports. */
export function publishingBody(name: string, publish: readonly Publish[], replicas = 1) {
  const ports = publish.map((each, at) => ({
    name: `p${at}`,
    port: 80 + at,
    protocol: "tcp" as const,
    publish: each,
  }));
  const body = serviceBody(name, { replicas });
  return { ...body, template: { ...body.template, ports } };
}

export interface StoredHostPort {
  host: string;
  protocol: string;
  port: number;
  setId: string;
  /** Null for an unknown set. */
  name: string | null;
}

export function listHostPorts({ ctx }: FleetContext): Promise<StoredHostPort[]> {
  return queryRows(
    ctx.db,
    sql`select h.name as host, p.protocol, p.port, p.set_id as "setId", p.name
        from host_ports p join hosts h on h.id = p.host_id order by h.name, p.protocol, p.port`,
  );
}

/** Lists violations of the rules of host ports. Empty in each committed state. */
export function findHostPortFaults({
  ctx,
}: FleetContext): Promise<{ fault: string; id: string }[]> {
  return queryRows(
    ctx.db,
    sql`select 'port without a booking' as fault, p.set_id as id from host_ports p
          where p.name is not null and p.service_id is null
            and not exists (select 1 from sets s where s.id = p.set_id and s.host_id = p.host_id)
        union all
        select 'claim without an unknown set', p.set_id from host_ports p
          where p.name is null and not exists (select 1 from unknown_sets u where u.set_id = p.set_id and u.host_id = p.host_id)
        union all
        select 'port of a deleted service', p.service_id from host_ports p
          where p.service_id is not null and not exists (select 1 from services v where v.id = p.service_id and v.deleted_at is null)
        union all
        select 'published port without a host port', s.id from sets s
          join revisions r on r.service_id = s.service_id and r.number = s.revision
          cross join jsonb_array_elements(r.template->'ports') entry
          where s.host_id is not null and entry ? 'publish'
            and not exists (select 1 from host_ports p where p.set_id = s.id and p.name = entry->>'name')
        union all
        select 'other than the fixed port', s.id from sets s
          join revisions r on r.service_id = s.service_id and r.number = s.revision
          cross join jsonb_array_elements(r.template->'ports') entry
          join host_ports p on p.set_id = s.id and p.name = entry->>'name'
          where p.port <> coalesce((entry->'publish'->>'hostPort')::int, p.port)`,
  );
}
