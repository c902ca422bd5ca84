import { type SQL, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import type { UpdateMethod } from "../../../contracts/api/rollouts.ts";
import type { StoredOwner } from "../../schema/operations.ts";
import { queryRows } from "../runtime/query.ts";
import {
  availableSetSql,
  liveSetSql,
  replicaSetSql,
  forcedDrainSql,
} from "./operation-conditions.ts";

/** Lists services with a due waiting operation after `after`, in the order of their ids. */
export async function listServicesWithDueOperations(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct o.service_id as id from operations o
          join sets s on s.id = o.set_id join hosts h on h.id = s.host_id
        where o.phase = 'waiting' and o.due_at <= now() and h.state <> 'lost' and ${liveSetSql} and o.service_id > ${after}
        order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}

/** A waiting operation, with the current and the requested state of its set. */
export interface WaitingOperation {
  setId: string;
  kind: "move" | "resize" | "update";
  owner: StoredOwner;
  mayMove: boolean;
  discardsVolume: boolean;
  attempts: number;
  hostId: string;
  hostName: string;
  isHostDraining: boolean;
  /** The drain is forced, and its deadline has passed: it ignores budgets and capacity. */
  isForced: boolean;
  desired: "running" | "stopped";
  isReady: boolean;
  /** The disruption budget counts the set. */
  isAvailable: boolean;
  hasVolumeData: boolean;
  /** The revision of the set now. */
  revision: number;
  toRevision: number;
  /** How a rollout updates the set. Null for a move or a resize. */
  method: UpdateMethod | null;
  /** The update replaces all containers. */
  restarts: boolean;
  /** A replacement could not have the address of the set at the same time. */
  hasStaticAddress: boolean;
  to: { cpuMillis: number; memoryBytes: number; volumeBytes: number };
  /** Booked on its host. */
  cpuMillis: number;
  memoryBytes: number;
  volumeBytes: number;
}

/**
 * The due operations of a service whose row the caller has locked; those with the fewest attempts
 * first. A drain of the host applies to operations of every owner. `volumeDataSql` is an expression
 * over set `s`, see queries/volumes.
 */
export async function listDueOperations(
  q: Queryable,
  serviceId: string,
  {
    volumeDataSql,
    minReadySeconds,
    limit,
  }: { volumeDataSql: SQL; minReadySeconds: number; limit: number },
): Promise<WaitingOperation[]> {
  return queryRows(
    q,
    sql`select o.set_id as "setId", o.kind, o.owner, o.may_move as "mayMove",
          (o.owner <> 'drain' and o.discards_volume) or (h.draining and coalesce(d.discards_volumes, false)) as "discardsVolume",
          o.attempts, s.host_id as "hostId", h.name as "hostName",
          h.draining as "isHostDraining", s.desired, s.ready as "isReady",
          ${availableSetSql(minReadySeconds)} as "isAvailable", ${volumeDataSql} as "hasVolumeData",
          ${forcedDrainSql} as "isForced",
          s.revision, coalesce(o.to_revision, s.revision) as "toRevision", o.restarts,
          case when o.kind = 'update' then coalesce((select method from rollout_sets r
            where r.rollout_id = o.rollout_id and r.set_id = o.set_id), case when o.restarts then 'in-place-all' else 'in-place' end) end as method,
          exists (select 1 from revisions r where r.service_id = s.service_id and r.number = coalesce(o.to_revision, s.revision)
            and r.template @? '$.networks[*].address') as "hasStaticAddress",
          json_build_object('cpuMillis', coalesce(o.cpu_millis, s.cpu_millis), 'memoryBytes', coalesce(o.memory_bytes, s.memory_bytes),
            'volumeBytes', coalesce(o.volume_bytes, s.volume_bytes)) as to,
          s.cpu_millis::float8 as "cpuMillis", s.memory_bytes::float8 as "memoryBytes", s.volume_bytes::float8 as "volumeBytes"
        from operations o join sets s on s.id = o.set_id join hosts h on h.id = s.host_id
          left join drains d on d.host_id = h.id
        where o.service_id = ${serviceId} and o.phase = 'waiting' and o.due_at <= now() and h.state <> 'lost' and ${liveSetSql}
        order by o.attempts, o.set_id limit ${limit}`,
  );
}

export interface ReplicaCountsRow {
  desired: number;
  live: number;
  available: number;
  notExpected: number;
  surging: number;
}

/** Counts a service's replicas for mayDisrupt, under the service's lock. Uses sets_service. */
export async function readReplicaCounts(
  q: Queryable,
  serviceId: string,
  { desired, minReadySeconds }: { desired: number; minReadySeconds: number },
): Promise<ReplicaCountsRow> {
  const [row] = await queryRows<ReplicaCountsRow>(
    q,
    sql`select (count(*) filter (where is_replica))::int as live,
          (count(*) filter (where is_replica and is_available))::int as available,
          (count(*) filter (where is_replica and (desired = 'stopped' or not (was_ready or ready))))::int as "notExpected",
          (count(*) filter (where not is_replica))::int as surging
        from (select s.*, ${replicaSetSql} as is_replica, ${availableSetSql(minReadySeconds)} as is_available from sets s
          where s.service_id = ${serviceId} and ${liveSetSql}) s`,
  );
  const { live = 0, available = 0, notExpected = 0, surging = 0 } = row ?? {};
  return { desired: Math.min(desired, live), live, available, notExpected, surging };
}

/**
 * Lists services after `after` with operations that waited past their deadline, in the order of
 * their ids.
 */
export async function listServicesWithExpiredOperations(
  q: Queryable,
  after: string,
  limit: number,
): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(
    q,
    sql`select distinct service_id as id from operations
        where phase = 'waiting' and deadline_at <= now() and service_id > ${after} order by 1 limit ${limit}`,
  );
  return rows.map(({ id }) => id);
}
