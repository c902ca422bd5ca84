import { eq, gt, sql } from "drizzle-orm";
import type { Host } from "../../../contracts/api/hosts.ts";
import { renderReasonText } from "../../../contracts/api/reason-texts.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { generationRefusedSql } from "./write-hosts.ts";

const hostColumns = {
  id: hosts.id,
  name: hosts.name,
  pool: hosts.pool,
  zone: hosts.zone,
  rack: hosts.rack,
  labels: hosts.labels,
  taints: hosts.taints,
  state: hosts.state,
  reason: hosts.reason,
  cordoned: hosts.cordoned,
  draining: hosts.draining,
  generation: hosts.generation,
  acceptedGeneration: hosts.acceptedGeneration,
  isGenerationRefused: generationRefusedSql,
  agentVersion: hosts.agentVersion,
  allocatable: {
    cpuMillis: hosts.allocatableCpuMillis,
    memoryBytes: hosts.allocatableMemoryBytes,
    volumeBytes: hosts.allocatableVolumeBytes,
    rootfsBytes: hosts.allocatableRootfsBytes,
  },
  allocated: {
    cpuMillis: hosts.allocatedCpuMillis,
    memoryBytes: hosts.allocatedMemoryBytes,
    volumeBytes: hosts.allocatedVolumeBytes,
    rootfsBytes: hosts.allocatedRootfsBytes,
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
  leaseExpiresAt: hosts.leaseExpiresAt,
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

function toHost(hostRow: HostRow): Host {
  const { used, measured, reportedAt, acceptedGeneration, isGenerationRefused, ...row } = hostRow;
  const refused = { acceptedGeneration, databaseGeneration: row.generation };
  const code = "generation-refused";
  return {
    ...row,
    reason: isGenerationRefused ? { code, text: renderReasonText(code, refused) } : row.reason,
    reported: reportedAt && { used, ...measured, at: reportedAt.toISOString() },
    leaseExpiresAt: row.leaseExpiresAt.toISOString(),
    enrolledAt: row.enrolledAt.toISOString(),
  };
}
