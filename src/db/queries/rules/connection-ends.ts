import { type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { queryRows } from "../runtime/query.ts";

/** A set with its addresses in one network of its tenant. */
export interface SetInterface {
  setId: string;
  serviceId: string;
  service: string;
  networkId: string;
  addresses: string[];
}

/** Lists the interfaces of a set. Uses addresses_set_subnet_unique. */
export function listInterfacesOfSet(
  q: Queryable,
  tenantId: string,
  setId: string,
): Promise<SetInterface[]> {
  return selectInterfaces(q, sql`n.tenant_id = ${tenantId} and a.set_id = ${setId}`);
}

/** Lists the interfaces of the first sets of a service, by id. Uses sets_service. */
export function listInterfacesOfService(
  q: Queryable,
  serviceId: string,
  setsMax: number,
): Promise<SetInterface[]> {
  const first = sql`select x.id from sets x where x.service_id = ${serviceId} and x.deleted_at is null
    and exists (select 1 from addresses y where y.set_id = x.id and y.state = 'assigned') order by x.id limit ${setsMax}`;
  return selectInterfaces(q, sql`a.set_id in (${first})`);
}

/** Lists the sets of a tenant that have an address: at most one in each network. */
export function listInterfacesWithAddress(
  q: Queryable,
  tenantId: string,
  address: string,
): Promise<SetInterface[]> {
  return selectInterfaces(q, sql`n.tenant_id = ${tenantId} and a.address = ${address}::inet`);
}

/** Lists the services of a tenant that have a service address: at most one in each network. */
export function listServicesWithAddress(
  q: Queryable,
  tenantId: string,
  address: string,
): Promise<{ serviceId: string; service: string; networkId: string }[]> {
  return queryRows(
    q,
    sql`select v.id as "serviceId", v.name as service, n.id as "networkId"
        from networks n join subnets b on b.network_id = n.id join addresses a on a.subnet_id = b.id
          join services v on v.id = a.service_id
        where n.tenant_id = ${tenantId} and a.address = ${address}::inet and a.state = 'assigned' order by n.id`,
  );
}

function selectInterfaces(q: Queryable, condition: SQL): Promise<SetInterface[]> {
  return queryRows(
    q,
    sql`select a.set_id as "setId", s.service_id as "serviceId", v.name as service, n.id as "networkId",
          json_agg(host(a.address) order by b.family) as addresses
        from networks n join subnets b on b.network_id = n.id join addresses a on a.subnet_id = b.id
          join sets s on s.id = a.set_id join services v on v.id = s.service_id
        where a.state = 'assigned' and ${condition}
        group by a.set_id, s.service_id, v.name, n.id order by a.set_id, n.id`,
  );
}
