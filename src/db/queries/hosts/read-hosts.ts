import { NETWORKS_FEATURE } from "../../../contracts/agent-protocol/agent-features.ts";
import { eq, gt, sql } from "drizzle-orm";
import type { HostCapabilities } from "../../../contracts/api/host-capabilities.ts";
import type { Duplicate, Host } from "../../../contracts/api/hosts.ts";
import {
  type ReasonCode,
  type ReasonFacts,
  renderReasonText,
} from "../../../contracts/api/reason-texts.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { DUPLICATE_MS, type StoredCapabilities } from "../../schema/agent-record.ts";
import { bookedMemorySql, bookedRootfsSql } from "./bookings.ts";
import { generationRefusedSql } from "./write-hosts.ts";

/** SQL: why a second agent of a ready host is refused. Null without one in the last 5 minutes. */
const duplicateSql = sql<Duplicate | null>`(select key from jsonb_each(case when hosts.state = 'ready' then hosts.agent->'duplicates' end)
  where (value->>'isReported')::boolean and (value->>'seenMs')::float8 > extract(epoch from now()) * 1000 - ${sql.raw(String(DUPLICATE_MS))}
  order by key limit 1)`;

const networksFeature = sql.raw(`'["${NETWORKS_FEATURE}"]'`);

const hostColumns = {
  id: hosts.id,
  name: hosts.name,
  pool: hosts.pool,
  zone: hosts.zone,
  rack: hosts.rack,
  labels: hosts.labels,
  taints: hosts.taints,
  gatewayGroup: hosts.gatewayGroup,
  state: hosts.state,
  reason: hosts.reason,
  cordoned: hosts.cordoned,
  draining: hosts.draining,
  generation: hosts.generation,
  acceptedGeneration: hosts.acceptedGeneration,
  isGenerationRefused: generationRefusedSql,
  duplicate: duplicateSql,
  agentVersion: hosts.agentVersion,
  capabilities: hosts.capabilities,
  allocatable: {
    cpuMillis: hosts.allocatableCpuMillis,
    memoryBytes: hosts.allocatableMemoryBytes,
    volumeBytes: hosts.allocatableVolumeBytes,
    rootfsBytes: hosts.allocatableRootfsBytes,
  },
  allocated: {
    cpuMillis: hosts.allocatedCpuMillis,
    memoryBytes: bookedMemorySql,
    volumeBytes: hosts.allocatedVolumeBytes,
    rootfsBytes: bookedRootfsSql,
  },
  used: {
    cpuMillis: hosts.usedCpuMillis,
    memoryBytes: hosts.usedMemoryBytes,
    volumeBytes: hosts.usedVolumeBytes,
    rootfsBytes: hosts.usedRootfsBytes,
  },
  measured: {
    reclaimableVolumeBytes: hosts.reclaimableVolumeBytes,
    trashedVolumeBytes: hosts.trashedVolumeBytes,
    volumeReason: hosts.volumeReason,
    imageBytes: hosts.imageBytes,
    containerBytes: hosts.containerBytes,
  },
  reportedAt: hosts.reportedAt,
  // In a select from one table, the builder writes columns without their table.
  sets: sql<number>`(select count(*)::int from sets where host_id = hosts.id)`,
  unknownSets: sql<
    string[]
  >`(select coalesce(json_agg(set_id order by set_id), '[]') from unknown_sets where host_id = hosts.id)`,
  /** Other hosts connect sets to networks, too, and this one has no tunnel to them. */
  lacksTunnel: sql<boolean>`(hosts.capabilities->'features' @> ${networksFeature} and hosts.capabilities->>'tunnelAddress' is null
    and exists (select 1 from hosts o where o.id <> hosts.id and o.capabilities->'features' @> ${networksFeature}))`,
  /**
   * Another host that is not lost has the same tunnel address. The subselect has no reference to
   * the row, so Postgres evaluates it once in a statement.
   */
  sharesTunnel: sql<boolean>`(hosts.state <> 'lost' and coalesce(hosts.capabilities->>'tunnelAddress' in (
    select o.capabilities->>'tunnelAddress' from hosts o where o.state <> 'lost' and o.capabilities->'features' @> ${networksFeature}
      group by 1 having count(*) > 1), false))`,
  leaseExpiresAt: hosts.leaseExpiresAt,
  credentialReplacedAt: hosts.credentialReplacedAt,
  rotationRequestedAt: hosts.rotationRequestedAt,
  enrolledAt: hosts.enrolledAt,
};

function selectHosts(q: Queryable) {
  return q.select(hostColumns).from(hosts);
}

export async function findHost(q: Queryable, hostId: string): Promise<Host | undefined> {
  const rows = await selectHosts(q).where(eq(hosts.id, hostId));
  return rows.map(toHost)[0];
}

/** Lists hosts after `afterId`, the oldest first. */
export async function listHosts(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Host[]> {
  const rows = await selectHosts(q)
    .where(gt(hosts.id, afterId ?? ""))
    .orderBy(hosts.id)
    .limit(limit);
  return rows.map(toHost);
}

type HostRow = Awaited<ReturnType<typeof selectHosts>>[number];

function describeSharedTunnel(stored: HostRow["capabilities"]): Reason {
  return describe("tunnel-address-shared", { address: stored?.tunnelAddress ?? "unknown" });
}

function toHost(hostRow: HostRow): Host {
  const { used, measured, reportedAt, acceptedGeneration, isGenerationRefused, ...rest } = hostRow;
  const { duplicate, capabilities: stored, lacksTunnel, sharesTunnel, ...others } = rest;
  const { credentialReplacedAt, rotationRequestedAt, ...row } = others;
  const noTunnel = lacksTunnel ? describe("tunnel-address-missing", {}) : null;
  const refused = { acceptedGeneration, databaseGeneration: row.generation };
  return {
    ...row,
    reason: isGenerationRefused
      ? describe("generation-refused", refused)
      : duplicate === null
        ? (row.reason ??
          describeSelfTest(stored) ??
          describeUnknownSets(row.unknownSets) ??
          noTunnel ??
          (sharesTunnel ? describeSharedTunnel(stored) : null))
        : describe("host-duplicated", { cause: duplicate }),
    capabilities: stored && toCapabilities(stored),
    reported: reportedAt && {
      used,
      ...measured,
      reason: measured.volumeReason,
      at: reportedAt.toISOString(),
    },
    leaseExpiresAt: row.leaseExpiresAt.toISOString(),
    credential: {
      replacedAt: credentialReplacedAt && credentialReplacedAt.toISOString(),
      rotationRequestedAt: rotationRequestedAt && rotationRequestedAt.toISOString(),
    },
    enrolledAt: row.enrolledAt.toISOString(),
  };
}

function describe<C extends ReasonCode>(code: C, facts: ReasonFacts<C>): Reason {
  return { code, text: renderReasonText(code, facts) };
}

function toCapabilities({
  features,
  docker,
  setsMax,
  selfTest,
  otherHostVolumes = null,
  tunnelAddress = null,
  hostAddress = null,
}: StoredCapabilities): HostCapabilities {
  return { features, docker, setsMax, selfTest, otherHostVolumes, tunnelAddress, hostAddress };
}

function describeSelfTest(stored: StoredCapabilities | null): Reason | null {
  const { state, reason } = stored?.selfTest ?? {};
  if (state !== "failed" && state !== "reported") return null;
  const isOnlyReported = state === "reported";
  return describe("self-test-failed", { reason: reason?.text ?? null, isOnlyReported });
}

function describeUnknownSets({ length }: readonly string[]): Reason | null {
  return length === 0 ? null : describe("unknown-sets", { sets: length });
}
