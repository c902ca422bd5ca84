import { KeyedLimit } from "../../lib/async/keyed-limit.ts";
import { type Api, mount } from "../http/operation.ts";
import { listSessionsHandler, listSessionsRoute } from "./list-sessions.ts";
import { attachRoute, createSessionHandler, execRoute } from "./open-session.ts";

const SESSIONS_PER_CALLER_MAX = 16;
const SESSIONS_PER_TENANT_AND_HOST_MAX = 8;
/** An idle session costs less than 60 KiB. */
const SESSIONS_PER_PROCESS_MAX = 10_000;

export function mountSessions(api: Api): void {
  const limits = {
    callerSessions: new KeyedLimit(SESSIONS_PER_CALLER_MAX),
    hostSessions: new KeyedLimit(SESSIONS_PER_TENANT_AND_HOST_MAX),
    processSessions: new KeyedLimit(SESSIONS_PER_PROCESS_MAX),
  };
  const options = { limits, streamsEnd: api.streamsEnd };
  // A session uses the database after its request has ended, so it has a context of its own.
  const longLived = { timeLimitMs: null, isShared: true };
  mount(api, execRoute, createSessionHandler("exec", options), longLived);
  mount(api, attachRoute, createSessionHandler("attach", options), longLived);
  mount(api, listSessionsRoute, listSessionsHandler);
}
