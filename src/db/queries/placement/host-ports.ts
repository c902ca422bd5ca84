import { type SQL, sql } from "drizzle-orm";
import type { PortProtocol, TemplatePort } from "../../../contracts/api/template-ports.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { anyOf, queryRows } from "../runtime/query.ts";

/** The hosts on which a set has a port. */
export interface TakenHostPort {
  protocol: PortProtocol;
  port: number;
  hostIds: string[];
}

/**
 * A list of TakenHostPort: the host ports that the ports of a template fix, if a set of any host
 * has them. Null if the template fixes none. `ports` is an expression. Uses host_ports_port.
 */
export function selectTakenHostPorts(ports: SQL): SQL {
  return sql`case when ${ports} @? '$[*].publish.hostPort' then
    (select coalesce(json_agg(json_build_object('protocol', taken.protocol, 'port', taken.port, 'hostIds', taken.host_ids)), '[]') from (
      select p.protocol, p.port, json_agg(p.host_id) as host_ids from jsonb_array_elements(${ports}) named(entry)
        join host_ports p on p.port = (named.entry->'publish'->>'hostPort')::int and p.protocol = named.entry->>'protocol'
      group by p.protocol, p.port) taken) end`;
}

/**
 * The host ports of a set on its host: a list of HostPort in the order of their names. Null for a
 * set without published ports. Both parameters are expressions. Uses host_ports_set_name_unique.
 */
export function selectHostPorts(setId: SQL, ports: SQL): SQL {
  return sql`case when ${ports} @? '$[*].publish' then
    (select json_agg(json_build_object('protocol', p.protocol, 'port', (entry->>'port')::int, 'hostPort', p.port) order by p.name)
      from host_ports p join jsonb_array_elements(${ports}) entry on entry->>'name' = p.name where p.set_id = ${setId}) end`;
}

/** Lists the hosts on which sets have these ports. Without ports it sends no statement. */
export async function listTakenHostPorts(
  q: Queryable,
  ports: readonly { protocol: PortProtocol; port: number }[],
): Promise<TakenHostPort[]> {
  if (ports.length === 0) return [];
  return queryRows(
    q,
    sql`select p.protocol, p.port, json_agg(p.host_id) as "hostIds"
        from json_to_recordset(${JSON.stringify(ports)}::json) as w(protocol text, port int)
          join host_ports p on p.port = w.port and p.protocol = w.protocol
        group by p.protocol, p.port`,
  );
}

export interface UsedHostPorts {
  hostId: string;
  protocol: PortProtocol;
  ports: number[];
}

/** Lists the ports that sets have on locked hosts. The number of sets of a host bounds them. */
export async function listUsedHostPorts(
  q: Queryable,
  hostIds: readonly string[],
): Promise<UsedHostPorts[]> {
  return queryRows(
    q,
    sql`select host_id as "hostId", protocol, json_agg(port) as ports from host_ports
        where host_id = ${anyOf(hostIds)} group by host_id, protocol`,
  );
}

/** A host port for a port of a set that the transaction places. */
export interface ChosenHostPort {
  hostId: string;
  protocol: PortProtocol;
  port: number;
  setId: string;
  /** The name of the port in the template of the set. */
  name: string;
}

/**
 * Stores the host ports of the sets that this transaction has just placed, and skips sets that were
 * deleted meanwhile. A violated key fails the transaction: no port of a host has two sets. Without
 * ports it sends no statement.
 */
export async function insertHostPorts(
  q: Queryable,
  chosen: readonly ChosenHostPort[],
): Promise<void> {
  if (chosen.length === 0) return;
  await q.execute(
    sql`insert into host_ports (host_id, protocol, port, set_id, name)
        select c."hostId", c.protocol, c.port, c."setId", c.name
        from json_to_recordset(${JSON.stringify(chosen)}::json) as c("hostId" text, protocol text, port int, "setId" text, name text)
          join sets s on s.id = c."setId" and s.host_id = c."hostId" and s.state = 'placed' and s.placed_at = now()`,
  );
}

/** A host port of a set that the database does not know. */
export interface UnknownHostPort {
  setId: string;
  protocol: PortProtocol;
  port: number;
}

/** A bound for the reports of a faulty agent. The default range has as many to spare. */
const CLAIMED_PORTS_MAX = 4_000;

/**
 * Claims ports of a locked host for its unknown sets: Berth gives them to no other set while the
 * host reports these sets. It omits ports that a set has, because only one of both can bind them. A
 * service loses the port to the unknown set, as it does in the network driver.
 */
export async function claimUnknownHostPorts(
  q: Queryable,
  hostId: string,
  ports: readonly UnknownHostPort[],
): Promise<void> {
  if (ports.length === 0) return;
  await q.execute(
    sql`delete from host_ports p using json_to_recordset(${JSON.stringify(ports)}::json) as w(protocol text, port int)
        where p.host_id = ${hostId} and p.protocol = w.protocol and p.port = w.port and p.service_id is not null`,
  );
  await q.execute(
    sql`insert into host_ports (host_id, protocol, port, set_id)
        select ${hostId}, w.protocol, w.port, w."setId"
        from json_to_recordset(${JSON.stringify(ports)}::json) as w("setId" text, protocol text, port int)
        where not exists (select 1 from host_ports p where p.host_id = ${hostId} and p.protocol = w.protocol and p.port = w.port)
        order by w."setId", w.protocol, w.port
        limit greatest(0, ${CLAIMED_PORTS_MAX}::int - (select count(*) from host_ports where host_id = ${hostId} and name is null))
        on conflict do nothing`,
  );
}

/** Lists the ports in the templates of these sets. */
export async function listPortsOfSets(
  q: Queryable,
  setIds: readonly string[],
): Promise<{ setId: string; generation: number; ports: TemplatePort[] | null }[]> {
  return queryRows(
    q,
    sql`select s.id as "setId", s.generation::float8 as generation, r.template->'ports' as ports
        from sets s join revisions r on r.service_id = s.service_id and r.number = s.revision
        where s.id = ${anyOf(setIds)} order by s.id`,
  );
}

/**
 * Replaces host ports of sets on a locked host by unused ones, in a new generation of the host. A
 * violated key fails the transaction.
 */
export async function updateHostPorts(
  q: Queryable,
  hostId: string,
  chosen: readonly ChosenHostPort[],
): Promise<void> {
  await q.execute(
    sql`with changed as (
          update host_ports p set port = c.port
          from json_to_recordset(${JSON.stringify(chosen)}::json) as c(port int, "setId" text, name text)
          where p.host_id = ${hostId} and p.set_id = c."setId" and p.name = c.name returning p.set_id
        ), bumped as (
          update hosts set generation = generation + 1 where id = ${hostId} returning generation
        )
        update sets s set generation = s.generation + 1, host_generation = bumped.generation, updated_at = now()
        from bumped where s.id in (select set_id from changed)`,
  );
}
