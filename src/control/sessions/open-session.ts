import { SESSIONS_FEATURE } from "../../contracts/agent-protocol/agent-features.ts";
import type { Caller } from "../../contracts/api/caller.ts";
import type { SessionClient } from "../../contracts/api/sessions.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import {
  findSessionTarget,
  type NewSession,
  type SessionTarget,
} from "../../db/queries/sessions/sessions.ts";
import type { KeyedLimit } from "../../lib/async/keyed-limit.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { storeEnded, storeRefused, storeRequested } from "./record-session.ts";

/** No caller gets into it (I10). The agent and the database refuse it, too. */
const INFRA_CONTAINER = "infra";
const RETRY_AFTER_MS = 1_000;

export interface SessionCall {
  setId: string;
  container: string;
  kind: "exec" | "attach";
  client: SessionClient;
}

export interface SessionLimits {
  /** The sessions of a token. */
  callerSessions: KeyedLimit;
  /** The sessions of a tenant on a host. The agent bounds all sessions of its host. */
  hostSessions: KeyedLimit;
  /** All sessions of the process. */
  processSessions: KeyedLimit;
}

export interface OpenedSession {
  session: NewSession;
  /** The connection of the agent, which is paused. */
  agent: SessionSocket;
  /** Call it at the end of the session. */
  leave: () => void;
  /** Ends a session whose caller has disconnected before it runs. */
  abandon: () => void;
}

/**
 * Opens a session with a container for a caller: stores it, and connects the agent of the host.
 * Throws not-found, forbidden for infra, state-conflict for a set without a host, and unsupported
 * for an old agent. Throws rate-limited, and dependency-unavailable without the agent.
 */
export async function openSession(
  ctx: ControlContext,
  { caller, scope, limits }: { caller: Caller; scope: string | null; limits: SessionLimits },
  call: SessionCall,
  signal: AbortSignal,
): Promise<OpenedSession> {
  const { setId, container, kind, client } = call;
  const target = await findSessionTarget(ctx.db, scope, setId);
  if (!target) throw notFound("set");
  const { tenantId, serviceId } = target;
  const hostId = target.hostId ?? throwWithoutHost();
  const byTokenId = caller.tokenId;
  const id = newId("ses");
  const session = { id, tenantId, serviceId, setId, hostId, container, kind, byTokenId, client };
  if (container === INFRA_CONTAINER) throw await refuseInfra(ctx, session);
  assertTarget(target, container);
  const leave = enter(limits, session);
  try {
    await storeRequested(ctx, session);
    const agent = await connectAgent(ctx, session, signal);
    const abandon = (): void => {
      agent.terminate();
      leave();
      storeNotConnected(ctx, session, "The caller disconnected.").catch((error: unknown) => {
        ctx.log.error({ err: error }, "cannot store the end of a session");
      });
    };
    return { session, agent, leave, abandon };
  } catch (error) {
    leave();
    throw error;
  }
}

async function connectAgent(
  ctx: ControlContext,
  session: NewSession,
  signal: AbortSignal,
): Promise<SessionSocket> {
  const { id: sessionId, setId, hostId, container, kind } = session;
  try {
    const wake = () => ctx.signals.publish([`host:${hostId}`]);
    const request = { sessionId, setId, container, kind };
    return await ctx.sessions.request(hostId, request, { wake, signal });
  } catch (error) {
    const text = error instanceof AppError ? error.publicDetail : "The caller disconnected.";
    await storeNotConnected(ctx, session, text);
    throw error;
  }
}

function storeNotConnected(ctx: ControlContext, session: NewSession, text: string): Promise<void> {
  const reason = { code: "session-not-connected", text };
  const end = { exitCode: null, reason, bytesIn: 0, bytesOut: 0 };
  return storeEnded(ctx, session, { program: null, end });
}

function throwWithoutHost(): never {
  throw new AppError("state-conflict", {
    detail: "The set has no host, so it has no containers. See its explanation.",
  });
}

async function refuseInfra(ctx: ControlContext, session: NewSession): Promise<AppError> {
  const detail =
    "Berth permits no session in an infra container. Name a container of the template.";
  await storeRefused(ctx, session, detail);
  return new AppError("forbidden", { detail });
}

function assertTarget({ containers, features, hostName }: SessionTarget, container: string): void {
  const isKnown = containers.some(({ name }) => name === container);
  if (!isKnown && containers.length > 0) throw notFound("container");
  if (features.includes(SESSIONS_FEATURE)) return;
  throw new AppError("unsupported", {
    detail: `The agent of host ${hostName} is too old for sessions. Upgrade it.`,
  });
}

/** Takes a place in each limit, or none. */
function enter(limits: SessionLimits, { byTokenId, hostId, tenantId }: NewSession): () => void {
  const places: (() => void)[] = [];
  const leave = (): void => {
    for (const leavePlace of places) leavePlace();
  };
  const takes = [
    [limits.callerSessions, byTokenId, "The token has too many open sessions."],
    [
      limits.hostSessions,
      `${hostId} ${tenantId}`,
      "The tenant has too many sessions on this host.",
    ],
    [limits.processSessions, "", "The API has too many open sessions."],
  ] as const;
  for (const [limit, key, fault] of takes) {
    const leavePlace = limit.tryEnter(key);
    if (leavePlace) {
      places.push(leavePlace);
      continue;
    }
    leave();
    const detail = `${fault} End one, or retry the request later.`;
    throw new AppError("rate-limited", { detail, retryAfterMs: RETRY_AFTER_MS });
  }
  return leave;
}
