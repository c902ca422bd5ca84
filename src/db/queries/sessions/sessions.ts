import { sql } from "drizzle-orm";
import type { Session, SessionClient, SessionKind } from "../../../contracts/api/sessions.ts";
import type { ContainerStatus, SetState } from "../../../contracts/api/sets.ts";
import type { Reason } from "../../../contracts/common/primitives.ts";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { sessions } from "../../schema/sessions.ts";
import { insertInto } from "../runtime/insert-into.ts";
import { isoTime, isoTimeOrNull, queryRows, readByKey, secondsAgo } from "../runtime/query.ts";
import { inScope } from "../services/read-services.ts";

/** A set that a caller wants a session with. */
export interface SessionTarget {
  setId: string;
  tenantId: string;
  serviceId: string;
  state: SetState;
  containers: ContainerStatus[];
  hostId: string | null;
  hostName: string | null;
  /** The features of the host's agent. */
  features: string[];
}

/** Finds a live set within the scope. */
export async function findSessionTarget(
  q: Queryable,
  scope: string | null,
  setId: string,
): Promise<SessionTarget | undefined> {
  const rows = await readByKey<SessionTarget>(
    q,
    sql`select s.id as "setId", s.tenant_id as "tenantId", s.service_id as "serviceId", s.state, s.containers,
          s.host_id as "hostId", h.name as "hostName", coalesce(h.capabilities->'features', '[]') as features
        from sets s left join hosts h on h.id = s.host_id
        where s.id = ${setId} and s.deleted_at is null and ${inScope(sql`s.tenant_id`, scope)}`,
  );
  return rows[0];
}

export interface NewSession {
  id: string;
  tenantId: string;
  serviceId: string;
  setId: string;
  hostId: string;
  container: string;
  kind: SessionKind;
  byTokenId: string;
  client: SessionClient;
}

/** Inserts a requested session, with the name of its token. */
export async function insertSession(q: Queryable, session: NewSession): Promise<void> {
  const byName = sql`(select name from tokens where id = ${session.byTokenId})`;
  await q.execute(insertInto(sessions, { ...session, byName }));
}

/** Notes that the agent and the caller are connected. Returns the name of the caller's token. */
export async function updateSessionOpened(
  q: Queryable,
  id: string,
): Promise<{ byName: string | null } | undefined> {
  const rows = await queryRows<{ byName: string | null }>(
    q,
    sql`update sessions set state = 'open', opened_at = now()
        where id = ${id} and state = 'requested' returning by_name as "byName"`,
  );
  return rows[0];
}

export interface SessionEnd {
  exitCode: number | null;
  reason: Reason | null;
  bytesIn: number;
  bytesOut: number;
}

/** Ends a session. Undefined if it has ended before. */
export async function updateSessionEnded(
  q: Queryable,
  id: string,
  { exitCode, reason, bytesIn, bytesOut }: SessionEnd,
): Promise<{ seconds: number } | undefined> {
  const rows = await queryRows<{ seconds: number }>(
    q,
    sql`update sessions set state = 'ended', ended_at = now(), exit_code = ${exitCode},
          reason = coalesce(reason, ${reason === null ? null : JSON.stringify(reason)}::jsonb),
          bytes_in = ${bytesIn}, bytes_out = ${bytesOut}
        where id = ${id} and state <> 'ended'
        returning extract(epoch from now() - coalesce(opened_at, requested_at))::float8 as seconds`,
  );
  return rows[0];
}

interface SessionRow extends Omit<Session, "requestedAt" | "openedAt" | "endedAt"> {
  requestedAt: string | Date;
  openedAt: string | Date | null;
  endedAt: string | Date | null;
}

const sessionColumns = sql`s.id, t.name as tenant, s.service_id as "serviceId", s.set_id as "setId", s.host_id as "hostId",
  s.container, s.kind, s.state, s.by_name as "byName", s.client, s.exit_code as "exitCode", s.reason,
  s.bytes_in::float8 as "bytesIn", s.bytes_out::float8 as "bytesOut", s.requested_at as "requestedAt",
  s.opened_at as "openedAt", s.ended_at as "endedAt"`;

/** Newest first, before `beforeId`. */
export async function listSessions(
  q: Queryable,
  scope: string | null,
  filter: { setId: string | undefined; isOpen: boolean },
  beforeId: string | undefined,
  limit: number,
): Promise<Session[]> {
  const conditions = [
    inScope(sql`s.tenant_id`, scope),
    ...(beforeId === undefined ? [] : [sql`s.id < ${beforeId}`]),
    ...(filter.setId === undefined ? [] : [sql`s.set_id = ${filter.setId}`]),
    ...(filter.isOpen ? [sql`s.ended_at is null`] : []),
  ];
  const rows = await queryRows<SessionRow>(
    q,
    sql`select ${sessionColumns} from sessions s join tenants t on t.id = s.tenant_id
        where ${sql.join(conditions, sql` and `)} order by s.id desc limit ${limit}`,
  );
  return rows.map(toSession);
}

/**
 * Ends at most `limit` sessions whose process was killed, because they are too old.
 */
export async function endAbandonedSessions(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<unknown>(
    q,
    sql`update sessions set state = 'ended', ended_at = now(), reason = ${JSON.stringify({
      code: "session-owner-lost",
      text: "The process of the API that had the session was killed.",
    })}::jsonb
        where id in (select id from sessions where ended_at is null and requested_at < ${secondsAgo(ageSeconds)} order by id limit ${limit})
        returning id`,
  );
  return rows.length;
}

/** Deletes sessions that ended before `ageSeconds`, at most `limit`. (Index sessions_ended.) */
export async function deleteOldSessions(
  q: Queryable,
  ageSeconds: number,
  limit: number,
): Promise<number> {
  const rows = await queryRows<unknown>(
    q,
    sql`delete from sessions where id in (
          select id from sessions where ended_at < ${secondsAgo(ageSeconds)} order by ended_at limit ${limit}
        ) returning id`,
  );
  return rows.length;
}

function toSession(row: SessionRow): Session {
  return {
    ...row,
    requestedAt: isoTime(row.requestedAt),
    openedAt: isoTimeOrNull(row.openedAt),
    endedAt: isoTimeOrNull(row.endedAt),
  };
}
