import type { SessionRelay } from "../../control/session-relay/session-relay.ts";

/** Answers the requests of a server. */
export interface HttpApp {
  fetch: (request: Request, env?: object) => Response | Promise<Response>;
  /** With it, the server accepts the WebSockets of sessions. */
  sessions?: SessionRelay;
}
