import { and, eq, isNull, type SQL, sql } from "drizzle-orm";
import type { Reason, ResourceAmounts } from "../../../contracts/common/primitives.ts";
import type { Db, Queryable } from "../../postgres/open-postgres.ts";
import type { AgentRecord } from "../../schema/agent-record.ts";
import { hosts } from "../../schema/hosts.ts";
import { tokens } from "../../schema/tenancy.ts";
import { addressesRequestedSql } from "../networks/unknown-addresses.ts";
import { unreportedSetSql, unreportedColumns } from "../sets/observed-sets.ts";
import { insertInto } from "../runtime/insert-into.ts";
import {
  anyOf,
  asyncCommit,
  queryRows,
  readByKey,
  secondsFromNow,
  updateUnlessLocked,
} from "../runtime/query.ts";

export interface NewHost {
  id: string;
  name: string;
  pool: string;
  zone: string;
  rack: string;
  labels: Record<string, string>;
  agentVersion: string;
  credentialHash: string;
  allocatable: ResourceAmounts;
  leaseSeconds: number;
}

/** Inserts a host. The planner ignores it until its first usage report. Throws already-exists. */
export async function insertHost(
  q: Queryable,
  { allocatable, leaseSeconds, ...host }: NewHost,
): Promise<void> {
  await q.execute(
    insertInto(hosts, {
      ...host,
      taints: [],
      state: "ready",
      leaseExpiresAt: secondsFromNow(leaseSeconds),
      allocatableCpuMillis: allocatable.cpuMillis,
      allocatableMemoryBytes: allocatable.memoryBytes,
      allocatableVolumeBytes: allocatable.volumeBytes,
      allocatableRootfsBytes: allocatable.rootfsBytes,
    }),
  );
}

/** Marks an enroll token as used. Returns false if it was already used or revoked. */
export async function useEnrollToken(q: Queryable, tokenId: string): Promise<boolean> {
  const rows = await q
    .update(tokens)
    .set({ usedAt: sql`now()` })
    .where(and(eq(tokens.id, tokenId), isNull(tokens.usedAt), isNull(tokens.revokedAt)))
    .returning({ id: tokens.id });
  return rows.length === 1;
}

/** The state of a host that its sync needs. */
export interface HostLeaseRow {
  hostId: string;
  generation: number;
  state: "ready" | "unhealthy" | "lost";
  resyncRequired: boolean;
  /** Null if the host has not reported its usage yet. */
  reportAgeMs: number | null;
  leaseSecondsLeft: number;
  /** Berth refused the stored generation of the agent, so the host shows it as its reason. */
  hasRefusedGeneration: boolean;
  /** The start of the Postgres server. After a failover or a restore it is another one. */
  databaseEpoch: string;
  /** The agent process that manages the host. */
  agent: AgentRecord | null;
  /**
   * The database may lack addresses of its sets: see `hosts.addresses_unknown_since`. False for an
   * agent that does not report addresses.
   */
  hasUnknownAddresses: boolean;
  /**
   * The version of the stored capabilities. Null without any, and without members that an earlier
   * release has omitted.
   */
  capabilitiesVersion: string | null;
  /** An operator requested the rotation of the credential, which has not ended. */
  isRotationRequested: boolean;
  /** The time of the database when it read the row. */
  databaseTimeMs: number;
}

/**
 * A host has fewer changes than this between a commit and the failover that loses it. A larger lead
 * comes from a corrupt agent. It would raise generations of sets until agents reject answers.
 */
export const GENERATION_LEAD_MAX = 1_000_000;

/** SQL condition: Berth refused the last stored generation of the agent of a ready host. */
export const generationRefusedSql = sql<boolean>`(hosts.state = 'ready' and hosts.accepted_generation - hosts.generation > ${sql.raw(String(GENERATION_LEAD_MAX))})`;

const leaseColumns = sql`hosts.id as "hostId", hosts.generation::float8 as generation, hosts.agent, 
  case when hosts.capabilities ?& array['tunnelAddress', 'hostAddress'] then hosts.capabilities->>'version' end as "capabilitiesVersion", ${addressesRequestedSql} as "hasUnknownAddresses", state, resync_required as "resyncRequired",
  rotation_requested_at is not null as "isRotationRequested",
  (extract(epoch from now() - reported_at) * 1000)::float8 as "reportAgeMs",
  (extract(epoch from lease_expires_at - now()))::float8 as "leaseSecondsLeft",
  ${generationRefusedSql} as "hasRefusedGeneration",
  extract(epoch from pg_postmaster_start_time())::text as "databaseEpoch",
  (extract(epoch from now()) * 1000)::float8 as "databaseTimeMs"`;

export type HostKey =
  | { hostId: string }
  | { credentialHash: string }
  /** Finds a host also by the next credential of a rotation that has not ended. */
  | { anyCredentialHash: string };

/** Finds the lease of a host, by its id or the hash of a credential. */
export async function findHostLease(q: Queryable, by: HostKey): Promise<HostLeaseRow | undefined> {
  const rows = await readByKey<HostLeaseRow>(
    q,
    sql`select ${leaseColumns} from hosts where ${hostKeySql(by)}`,
  );
  return rows[0];
}

function hostKeySql(by: HostKey): SQL {
  if ("hostId" in by) return sql`id = ${by.hostId}`;
  return "credentialHash" in by
    ? sql`credential_hash = ${by.credentialHash}`
    : sql`(credential_hash = ${by.anyCredentialHash} or next_credential_hash = ${by.anyCredentialHash})`;
}

/** Finds the leases of hosts by the hashes of credentials, each at the position of its hash. */
export async function findHostLeases(
  q: Queryable,
  credentialHashes: readonly string[],
): Promise<(HostLeaseRow | undefined)[]> {
  const rows = await readByKey<HostLeaseRow & { hash: string }>(
    q,
    sql`select ${leaseColumns}, credential_hash as hash from hosts where credential_hash = ${anyOf(credentialHashes)}`,
  );
  const found = new Map(rows.map(({ hash, ...lease }) => [hash, lease]));
  return credentialHashes.map((hash) => found.get(hash));
}

export interface LeaseRenewal {
  leaseSeconds: number;
  acceptedGeneration: number;
  agentVersion: string;
}

/** Renews the lease of a host in a transaction. It changes no column that the planner reads. */
export async function renewLease(
  tx: Queryable,
  hostId: string,
  lease: LeaseRenewal,
): Promise<void> {
  await tx.execute(sql`update hosts set ${renewed(lease)} where id = ${hostId}`);
}

/**
 * Renews a lease in a single statement. Returns false if another transaction has locked the host:
 * the lease is then unchanged. A crash may lose the renewal, which the host repeats.
 */
export async function renewOnlyLease(
  db: Db,
  hostId: string,
  lease: LeaseRenewal,
): Promise<boolean> {
  const rows = await updateUnlessLocked(
    db,
    sql`update hosts set ${renewed(lease)} where id = ${hostId} and ${asyncCommit}`,
  );
  return rows !== "locked";
}

function renewed(lease: LeaseRenewal): SQL {
  return sql`lease_expires_at = ${secondsFromNow(lease.leaseSeconds)},
      accepted_generation = ${lease.acceptedGeneration}, agent_version = ${lease.agentVersion}`;
}

/**
 * Renews the lease of a host whose sync is rejected. It stores nothing of the invalid body. If
 * another transaction holds the host, the lease is unchanged: the host syncs again.
 */
export async function renewLeaseAfterRejection(
  db: Db,
  hostId: string,
  leaseSeconds: number,
): Promise<void> {
  await updateUnlessLocked(
    db,
    sql`update hosts set lease_expires_at = ${secondsFromNow(leaseSeconds)}
        where id = ${hostId} and state <> 'lost' and ${asyncCommit}`,
  );
}

/**
 * Stores a generation of an agent with a lead above GENERATION_LEAD_MAX. Returns false if the last
 * stored one also had such a lead: the host repeats a refused sync.
 */
export async function storeRefusedGeneration(
  tx: Queryable,
  hostId: string,
  acceptedGeneration: number,
): Promise<boolean> {
  const rows = await queryRows<{ id: string }>(
    tx,
    sql`update hosts set accepted_generation = ${acceptedGeneration}::bigint
        where id = ${hostId} and accepted_generation - generation <= ${GENERATION_LEAD_MAX}::bigint
          and ${acceptedGeneration}::bigint - generation > ${GENERATION_LEAD_MAX}::bigint
        returning id`,
  );
  return rows.length === 1;
}

/**
 * Raises the generation of a host above the generation that its agent has accepted. The database
 * has an older one if a failover to a replica lost the last changes. With the newer generations of
 * the host and its sets, the agent accepts the state of the database. Returns the new generation,
 * or undefined if the generation of the host is not older, or older by more than
 * GENERATION_LEAD_MAX. So it raises a set by at most that number. Locks the host, then its sets.
 */
export async function raiseHostGeneration(
  tx: Queryable,
  hostId: string,
  acceptedGeneration: number,
): Promise<number | undefined> {
  const rows = await queryRows<{ generation: number }>(
    tx,
    sql`with behind as materialized (
          select id, ${acceptedGeneration}::bigint - generation as lost_changes from hosts
          where id = ${hostId} and generation < ${acceptedGeneration}::bigint
            and ${acceptedGeneration}::bigint - generation <= ${GENERATION_LEAD_MAX}::bigint for no key update
        ), raised as (
          update hosts h set generation = ${acceptedGeneration}::bigint + 1 from behind b where h.id = b.id
          returning h.id, h.generation, b.lost_changes
        ), sent_again as (
          update sets s set generation = s.generation + r.lost_changes, host_generation = r.generation, updated_at = now()
          from raised r where s.host_id = r.id
        )
        select generation::float8 as generation from raised`,
  );
  return rows[0]?.generation;
}

export interface UsageReport {
  used: ResourceAmounts;
  allocatable: ResourceAmounts;
  reclaimableVolumeBytes: number;
  trashedVolumeBytes: number;
  volumeReason: Reason | null;
  disk: { imageBytes: number; containerBytes: number } | null;
  setMemoryBytes: Readonly<Record<string, number>>;
}

/**
 * Stores the measurement of a host, and renews its lease. Booked sets that do not run yet are not
 * part of the measurement, so they still count as unreported. The caller has locked the host.
 */
export async function updateHostUsage(
  q: Queryable,
  hostId: string,
  usage: UsageReport,
  lease: LeaseRenewal,
): Promise<void> {
  await q.execute(sql`update hosts set ${renewed(lease)}, ${measured(usage)}
    from ${summed(hostId, usage)} where hosts.id = ${hostId}`);
}

/**
 * Stores a measurement and renews the lease in a single statement. A crash may lose both, which the
 * host repeats.
 *
 * Returns "locked" and stores nothing if another transaction holds the host. Returns undefined and
 * stores nothing if a set was placed on the host since the statement began: the sum would be too
 * small. The generation of the host shows that. A set that left the host since then counts until
 * the next report, so the host never appears emptier than it is.
 */
export async function tryUpdateHostUsage(
  db: Db,
  hostId: string,
  usage: UsageReport,
  lease: LeaseRenewal,
): Promise<HostLeaseRow | "locked" | undefined> {
  const rows = await updateUnlessLocked<HostLeaseRow>(
    db,
    sql`update hosts set ${renewed(lease)}, ${measured(usage)}
        from ${summed(hostId, usage)}, (select generation from hosts where id = ${hostId}) seen
        where hosts.id = ${hostId} and hosts.generation = seen.generation and ${asyncCommit} returning ${leaseColumns}`,
  );
  return rows === "locked" ? rows : rows[0];
}

function measured(report: UsageReport): SQL {
  const { used, allocatable, disk, setMemoryBytes, volumeReason } = report;
  return sql`reported_at = now(), reclaimable_volume_bytes = ${report.reclaimableVolumeBytes},
      trashed_volume_bytes = ${report.trashedVolumeBytes},
      volume_reason = ${volumeReason === null ? null : JSON.stringify(volumeReason)}::jsonb,
      image_bytes = ${disk?.imageBytes ?? null}::bigint, container_bytes = ${disk?.containerBytes ?? null}::bigint,
      set_memory = ${JSON.stringify(setMemoryBytes)}::jsonb, used_cpu_millis = ${used.cpuMillis}, used_memory_bytes = ${used.memoryBytes},
      used_volume_bytes = ${used.volumeBytes}, used_rootfs_bytes = ${used.rootfsBytes},
      allocatable_cpu_millis = ${allocatable.cpuMillis}, allocatable_memory_bytes = ${allocatable.memoryBytes},
      allocatable_volume_bytes = ${allocatable.volumeBytes}, allocatable_rootfs_bytes = ${allocatable.rootfsBytes},
      unreported_cpu_millis = u.cpu, unreported_memory_bytes = u.memory, unreported_volume_bytes = u.volume,
      unreported_rootfs_bytes = u.rootfs, overhead_memory_bytes = o.memory, overhead_rootfs_bytes = o.rootfs`;
}

/**
 * Sums the unreported parts of a host's bookings: of each set, what its reported usage leaves, and
 * all claims. It also sums the overhead of all sets.
 */
function summed(hostId: string, { setMemoryBytes }: UsageReport): SQL {
  const setMemory = sql`(${JSON.stringify(setMemoryBytes)}::jsonb)`;
  return sql`(select coalesce(sum(unreported_cpu), 0) as cpu, coalesce(sum(unreported_memory), 0) as memory,
            coalesce(sum(unreported_volume), 0) as volume, coalesce(sum(unreported_rootfs), 0) as rootfs
          from (select ${unreportedColumns(setMemory)} from sets s
            where s.host_id = ${hostId} and ${unreportedSetSql}
            union all select cpu_millis, memory_bytes, volume_bytes, rootfs_bytes from claims where host_id = ${hostId}) parts) u,
        (select coalesce(sum(overhead_memory_bytes), 0) as memory, coalesce(sum(overhead_rootfs_bytes), 0) as rootfs
          from sets where host_id = ${hostId}) o`;
}

export async function updateHostImages(
  q: Queryable,
  hostId: string,
  images: readonly string[],
): Promise<void> {
  await q.execute(sql`update hosts set images = ${JSON.stringify(images)}::jsonb
    where id = ${hostId} and images <> ${JSON.stringify(images)}::jsonb`);
}

/**
 * Stores the state of a host with its reason. Returns the services of the sets that are no longer
 * ready, or undefined if the host already had this state, or is behind.
 *
 * An unhealthy host is down from now on, and its sets are not ready. A host that is behind the
 * decisions about its sets does not become ready: its resync is not complete.
 * @param acceptedGeneration the generation that its agent has accepted
 */
export async function updateHostState(
  q: Queryable,
  hostId: string,
  state: "ready" | "unhealthy",
  reason: { code: string; text: string } | null,
  acceptedGeneration: number,
): Promise<string[] | undefined> {
  const rows = await queryRows<{ serviceIds: string[] }>(
    q,
    sql`with changed as (
          update hosts set state = ${state}, reason = ${reason === null ? null : JSON.stringify(reason)}::jsonb,
            lost_at = ${state === "ready" ? sql`null` : sql`coalesce(lost_at, now())`},
            held_at = ${state === "ready" ? sql`null` : sql`held_at`},
            returned_at = ${state === "ready" ? sql`now()` : sql`returned_at`}, resync_required = resync_required and ${state !== "ready"}
          where id = ${hostId} and (state <> ${state} or (resync_required and ${state === "ready"}))
            and (${state !== "ready"} or generation <= ${acceptedGeneration} or not (resync_required or state = 'lost'))
          returning id
        ), silent as (
          update sets set ready = false, reason = ${JSON.stringify({ ...reason, phase: "run" })}::jsonb, updated_at = now()
          where host_id in (select id from changed) and ${state === "unhealthy"} and desired = 'running' and ready returning service_id
        )
        select array_to_json(array(select distinct service_id from silent)) as "serviceIds" from changed`,
  );
  return rows[0]?.serviceIds;
}

/** The reason of an unhealthy host, and of its sets. */
export const DOCKER_UNREACHABLE = "docker-unreachable";

/** The reason of a set that waits for a down host with its volume data. */
export const VOLUME_HOST_LOST = "volume-host-lost";
