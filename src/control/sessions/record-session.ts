import {
  insertSession,
  type NewSession,
  type SessionEnd,
  updateSessionEnded,
  updateSessionOpened,
} from "../../db/queries/sessions/sessions.ts";
import { findToken } from "../../db/queries/tenancy/tokens.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

const UNKNOWN_TOKEN = "a deleted token";

/** Stores a requested session, before its agent hears of it. */
export async function storeRequested(ctx: ControlContext, session: NewSession): Promise<void> {
  await unitOfWork(ctx, (tx) => insertSession(tx, session));
}

/** Stores that the session begins, with its event. Throws if the session has ended. */
export async function storeOpened(
  ctx: ControlContext,
  session: NewSession,
  program: string | null,
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const row = await updateSessionOpened(tx, session.id);
    if (!row) throw new Error(`session ${session.id} has ended`);
    const data = { ...factsOf(session), program, by: row.byName ?? UNKNOWN_TOKEN };
    tx.emit({ kind: "session-started", data, ...subjectsOf(session) });
  });
}

/** Stores the end of a session, with its event. */
export async function storeEnded(
  ctx: ControlContext,
  session: NewSession,
  { program, end }: { program: string | null; end: SessionEnd },
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const row = await updateSessionEnded(tx, session.id, end);
    if (!row) return;
    const seconds = Math.round(row.seconds);
    const { exitCode } = end;
    const outcome =
      exitCode === null ? { exitCode, reason: end.reason?.text ?? "unknown." } : { exitCode };
    const by = await findTokenName(ctx, session);
    const data = { ...factsOf(session), program, by, seconds, ...outcome };
    tx.emit({ kind: "session-ended", data, ...subjectsOf(session) });
  });
}

/** Emits the event of a session that Berth never permits. It has no row. */
export async function storeRefused(
  ctx: ControlContext,
  session: NewSession,
  reason: string,
): Promise<void> {
  const by = await findTokenName(ctx, session);
  await unitOfWork(ctx, async (tx) => {
    const data = { ...factsOf(session), by, reason };
    tx.emit({ kind: "session-refused", data, ...subjectsOf(session) });
  });
}

async function findTokenName(ctx: ControlContext, { byTokenId }: NewSession): Promise<string> {
  return (await findToken(ctx.db, byTokenId))?.name ?? UNKNOWN_TOKEN;
}

function factsOf({ id, kind, container }: NewSession) {
  return { sessionId: id, kind, container };
}

function subjectsOf({ tenantId, serviceId, setId, hostId }: NewSession) {
  return { tenantId, serviceId, setId, hostId };
}
