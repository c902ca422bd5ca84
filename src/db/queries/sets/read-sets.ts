import { and, desc, eq, isNotNull, type SQL, sql } from "drizzle-orm";
import type { Operation } from "../../../contracts/api/operations.ts";
import type { BerthSet, SetExplanation, SetState } from "../../../contracts/api/sets.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { placements, rejections } from "../../schema/placement.ts";
import { sets } from "../../schema/sets.ts";
import { isoTime, isoTimeOrNull, queryRows } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

type SetReadRow = Omit<
  BerthSet,
  "host" | "completed" | "operation" | "createdAt" | "placedAt" | "runningAt" | "updatedAt"
> & {
  hostId: string | null;
  hostName: string | null;
  /** Times as Postgres writes them in JSON. */
  operation: Operation | null;
  createdAt: string | Date;
  placedAt: string | Date | null;
  runningAt: string | Date | null;
  updatedAt: string | Date;
};

function setsWhere(condition: SQL): SQL {
  return sql`
    select s.id, t.name as tenant, v.name as service, s.revision, s.generation::float8 as generation, s.desired, s.state,
      s.ready, coalesce(s.reason, o.blocked, s.last_operation->'reason') as reason, h.id as "hostId", h.name as "hostName", s.address, s.cpu_millis::float8 as "cpuMillis",
      s.memory_bytes::float8 as "memoryBytes", s.volume_bytes::float8 as "volumeBytes",
      s.rootfs_bytes::float8 as "rootfsBytes", (h.set_memory->>s.id)::float8 as "memoryUsedBytes", s.sized as "resizeApplied",
      coalesce(o.kind = 'move' or o.phase in ('waiting', 'replacing', 'leaving'), false) as moving,
      case when o.set_id is not null then json_build_object('kind', o.kind, 'phase', o.phase, 'owner', case o.owner when 'person' then 'user' else o.owner end,
        'blocked', o.blocked,
        'createdAt', o.created_at, 'deadlineAt', o.deadline_at) end as operation,
      s.last_operation as "lastOperation", s.containers, s.created_at as "createdAt", s.placed_at as "placedAt",
      s.running_at as "runningAt", s.updated_at as "updatedAt"
    from sets s join services v on v.id = s.service_id join tenants t on t.id = s.tenant_id
      left join hosts h on h.id = s.host_id left join operations o on o.set_id = s.id
    where ${condition}`;
}

export async function findSetById(
  q: Queryable,
  scope: string | null,
  setId: string,
): Promise<BerthSet | undefined> {
  const rows = await queryRows<SetReadRow>(
    q,
    setsWhere(
      sql`s.id = ${setId} and s.deleted_at is null and ${inScope(sql`s.tenant_id`, scope)}`,
    ),
  );
  return rows.map(toSet)[0];
}

/** Whether a deleted set in the scope had this id. Distinguishes "deleted" from "no such set". */
export async function hasDeletedSet(
  q: Queryable,
  scope: string | null,
  setId: string,
): Promise<boolean> {
  const rows = await q
    .select({ id: sets.id })
    .from(sets)
    .where(and(eq(sets.id, setId), isNotNull(sets.deletedAt), inScope(sets.tenantId, scope)));
  return rows.length > 0;
}

export interface SetFilter {
  service: string | undefined;
  host: string | undefined;
  state: SetState | undefined;
}

/** Oldest first, after `afterId`. */
export async function listSets(
  q: Queryable,
  scope: string | null,
  filter: SetFilter,
  afterId: string | undefined,
  limit: number,
): Promise<BerthSet[]> {
  const conditions = [
    sql`s.deleted_at is null and s.id > ${afterId ?? ""}`,
    inScope(sql`s.tenant_id`, scope),
    ...(filter.service === undefined
      ? []
      : [
          sql`s.service_id in (select id from services x where x.name = ${filter.service} and x.deleted_at is null
                and ${inScope(sql`x.tenant_id`, scope)})`,
        ]),
    ...(filter.host === undefined ? [] : [sql`s.host_id = ${filter.host}`]),
    ...(filter.state === undefined ? [] : [sql`s.state = ${filter.state}`]),
  ];
  const rows = await queryRows<SetReadRow>(
    q,
    sql`${setsWhere(sql.join(conditions, sql` and `))} order by s.id limit ${limit}`,
  );
  return rows.map(toSet);
}

type Placement = NonNullable<SetExplanation["placement"]>;
type Rejection = NonNullable<SetExplanation["rejection"]>;

/** The newest placement of a set, with the host's name of today. */
export async function findPlacement(q: Queryable, setId: string): Promise<Placement | undefined> {
  const { id, hostId, score, because, createdAt } = placements;
  const rows = await q
    .select({ id, hostId, hostName: hosts.name, score, because, at: createdAt })
    .from(placements)
    .innerJoin(hosts, eq(hosts.id, hostId))
    .where(eq(placements.setId, setId))
    .orderBy(desc(id))
    .limit(1);
  return rows.map((row) => ({ ...row, at: row.at.toISOString() }))[0];
}

export async function findRejection(q: Queryable, setId: string): Promise<Rejection | undefined> {
  const { hostsTotal, reasons, at } = rejections;
  const rows = await q
    .select({ hostsTotal, reasons, at })
    .from(rejections)
    .where(eq(rejections.setId, setId));
  return rows.map((row) => ({ ...row, at: row.at.toISOString() }))[0];
}

/** An exited container is ready only if it has succeeded and no policy restarts it. */
function isCompleted({ ready, containers }: Pick<SetReadRow, "ready" | "containers">): boolean {
  return ready && containers.length > 0 && containers.every(({ state }) => state === "exited");
}

function toSet({ hostId, hostName, ...row }: SetReadRow): BerthSet {
  return {
    ...row,
    completed: isCompleted(row),
    operation: toOperation(row),
    host: hostId === null || hostName === null ? null : { id: hostId, name: hostName },
    createdAt: isoTime(row.createdAt),
    placedAt: isoTimeOrNull(row.placedAt),
    runningAt: isoTimeOrNull(row.runningAt),
    updatedAt: isoTime(row.updatedAt),
  };
}

/**
 * The operation of a set. A start, a stop and a removal follow from its state; they have no row.
 */
function toOperation({
  operation,
  desired,
  state,
}: Pick<SetReadRow, "operation" | "desired" | "state">): Operation | null {
  if (desired === "deleted") return { ...inProgress, kind: "remove" };
  if (operation !== null) {
    return {
      ...operation,
      createdAt: isoTimeOrNull(operation.createdAt),
      deadlineAt: isoTimeOrNull(operation.deadlineAt),
    };
  }
  if (desired === "stopped") return state === "stopped" ? null : { ...inProgress, kind: "stop" };
  const isStarting = ["pending", "placed", "preparing", "starting", "stopped"].includes(state);
  return isStarting ? { ...inProgress, kind: "start" } : null;
}

const inProgress = {
  phase: "in-progress",
  owner: null,
  blocked: null,
  createdAt: null,
  deadlineAt: null,
} as const;
