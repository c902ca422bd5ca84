import { sql } from "drizzle-orm";
import type { Sync, SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { syncAgent } from "../../../src/control/hosts/admit-agent.ts";
import { findHostLease } from "../../../src/db/queries/hosts/write-hosts.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { emptySync, type FleetContext, type HostOptions } from "./fleet-context.ts";

/** Enrolls a host whose agent connects sets to networks. */
export async function enrollNetworked(
  f: FleetContext,
  name: string,
  options?: HostOptions,
): Promise<string> {
  const hostId = await f.enroll(name, options);
  await setFeatures(f, hostId, ["networks"]);
  return hostId;
}

export async function setFeatures(
  { ctx }: FleetContext,
  hostId: string,
  features: readonly string[],
): Promise<void> {
  const capabilities = JSON.stringify({ features, docker: null, setsMax: null, selfTest: null });
  await ctx.db.execute(
    sql`update hosts set capabilities = ${capabilities}::jsonb where id = ${hostId}`,
  );
}

/** One sync of the host's agent, also with what the API has requested. */
export async function syncOf(
  { ctx }: FleetContext,
  hostId: string,
  report: Partial<Sync>,
): Promise<SyncResult> {
  const caller = await findHostLease(ctx.db, { hostId });
  assert(caller, "the host is enrolled");
  const sync = { body: emptySync(report), agent: undefined, capabilitiesVersion: "unknown" };
  return syncAgent(ctx, caller, sync, AbortSignal.timeout(10_000));
}

export interface StoredAddress {
  network: string;
  address: string;
  setId: string | null;
  service: string | null;
  mac: string;
  networkIndex: number | null;
  state: "assigned" | "quarantined";
}

export function listAddresses({ ctx }: FleetContext): Promise<StoredAddress[]> {
  return queryRows(
    ctx.db,
    sql`select n.name as network, host(a.address) as address, coalesce(a.set_id, a.unknown_set_id) as "setId", v.name as service, a.mac,
          a.network_index as "networkIndex", a.state
        from addresses a join subnets b on b.id = a.subnet_id join networks n on n.id = b.network_id
          left join services v on v.id = a.service_id order by a.address`,
  );
}

/** Lists violations of the rules of addresses. Empty in each committed state. */
export function findAddressFaults({ ctx }: FleetContext): Promise<{ fault: string; id: string }[]> {
  return queryRows(
    ctx.db,
    sql`select 'number of unavailable addresses' as fault, b.id from subnets b
          where b.unavailable <> (select count(*) from addresses a where a.subnet_id = b.id)
        union all
        select 'unusable address', host(a.address) from addresses a join subnets b on b.id = a.subnet_id
          where not exists (select 1 from jsonb_array_elements(b.ranges) r
              where a.address - host(b.cidr)::inet between (r->>0)::bigint and (r->>1)::bigint)
            or a.address = b.gateway or a.address = host(b.cidr)::inet or a.address = host(broadcast(b.cidr))::inet
        union all
        select 'assigned without a booking', a.set_id from addresses a
          where a.state = 'assigned' and a.service_id is null and a.gateway_host_id is null
            and not exists (select 1 from sets s where s.id = a.set_id and s.host_id is not null)
            and not exists (select 1 from unknown_sets u where u.set_id = a.unknown_set_id and u.host_id = a.unknown_host_id)
        union all
        select 'quarantined before the end of the booking', a.set_id from addresses a join sets s on s.id = a.set_id
          where a.state = 'quarantined' and s.host_id is not null
        union all
        select 'assigned to a deleted service', a.service_id from addresses a
          where a.state = 'assigned' and a.service_id is not null
            and not exists (select 1 from services v where v.id = a.service_id and v.deleted_at is null)
        union all
        select 'assigned to a gateway that publishes nothing', a.gateway_host_id from addresses a join subnets b on b.id = a.subnet_id
          where a.state = 'assigned' and a.gateway_host_id is not null
            and not exists (select 1 from host_ports o where o.host_id = a.gateway_host_id and o.network_id = b.network_id)
        union all
        select 'set without an address', s.id from sets s join hosts h on h.id = s.host_id
          where h.capabilities->'features' @> '["networks"]' and not exists (select 1 from addresses a where a.set_id = s.id)`,
  );
}
