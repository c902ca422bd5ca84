import { type SQL, sql } from "drizzle-orm";
import type { Host } from "../../../contracts/api/hosts.ts";
import type { Reason, ResourceAmounts } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { isoTime, queryRows } from "../runtime/query.ts";

type HostReadRow = Omit<Host, "reported" | "leaseExpiresAt" | "enrolledAt"> & {
  used: ResourceAmounts;
  reclaimableVolumeBytes: number;
  trashedVolumeBytes: number;
  volumeReason: Reason | null;
  imageBytes: number | null;
  containerBytes: number | null;
  reportedAt: string | Date | null;
  leaseExpiresAt: string | Date;
  enrolledAt: string | Date;
};

/** Amounts of one kind as JSON, which both drivers parse to numbers. */
function amounts(kind: "allocatable" | "allocated" | "used"): SQL {
  return sql.raw(`json_build_object('cpuMillis', ${kind}_cpu_millis, 'memoryBytes', ${kind}_memory_bytes,
    'volumeBytes', ${kind}_volume_bytes, 'rootfsBytes', ${kind}_rootfs_bytes)`);
}

function hostsWhere(condition: SQL): SQL {
  return sql`
    select id, name, pool, zone, rack, labels, taints, state, reason, cordoned, draining, generation::float8 as generation,
      agent_version as "agentVersion", ${amounts("allocatable")} as allocatable, ${amounts("allocated")} as allocated,
      ${amounts("used")} as used, reclaimable_volume_bytes::float8 as "reclaimableVolumeBytes",
      trashed_volume_bytes::float8 as "trashedVolumeBytes", volume_reason as "volumeReason",
      image_bytes::float8 as "imageBytes", container_bytes::float8 as "containerBytes", reported_at as "reportedAt", lease_expires_at as "leaseExpiresAt",
      enrolled_at as "enrolledAt", (select count(*)::int from sets where host_id = hosts.id) as sets
    from hosts where ${condition}`;
}

export async function findHost(q: Queryable, hostId: string): Promise<Host | undefined> {
  const rows = await queryRows<HostReadRow>(q, hostsWhere(sql`id = ${hostId}`));
  return rows.map(toHost)[0];
}

/** Lists hosts after `afterId`, the oldest first. */
export async function listHosts(
  q: Queryable,
  afterId: string | undefined,
  limit: number,
): Promise<Host[]> {
  const rows = await queryRows<HostReadRow>(
    q,
    sql`${hostsWhere(sql`id > ${afterId ?? ""}`)} order by id limit ${limit}`,
  );
  return rows.map(toHost);
}

function toHost(hostRow: HostReadRow): Host {
  const {
    used,
    reclaimableVolumeBytes,
    trashedVolumeBytes,
    volumeReason,
    imageBytes,
    containerBytes,
    reportedAt,
    ...row
  } = hostRow;
  const measured = {
    used,
    reclaimableVolumeBytes,
    trashedVolumeBytes,
    volumeReason,
    imageBytes,
    containerBytes,
  };
  return {
    ...row,
    reported: reportedAt === null ? null : { ...measured, at: isoTime(reportedAt) },
    leaseExpiresAt: isoTime(row.leaseExpiresAt),
    enrolledAt: isoTime(row.enrolledAt),
  };
}
