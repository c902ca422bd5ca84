import type { SessionRequest } from "../../contracts/agent-protocol/session-request.ts";

/** The process of the API that waits for the agent of a session. */
export interface SessionOwner {
  /** Its URL for other processes of the API. */
  url: string;
  /** Proves that another process knows the directory. */
  secret: string;
}

/**
 * Requests for the agents of hosts, and the owner of each requested session. It never has the bytes
 * of a session. All entries expire after half a minute.
 */
export interface SessionDirectory {
  /**
   * Stores a request for the agent of a host. The caller wakes the host. Throws rate-limited if too
   * many requests wait for it.
   */
  announce(hostId: string, request: SessionRequest, owner: SessionOwner): Promise<void>;
  /** Takes the stored requests for a host. Returns none while the directory is unreachable. */
  takeRequests(hostId: string): Promise<SessionRequest[]>;
  /** Undefined if no process waits for the session. */
  findOwner(sessionId: string): Promise<SessionOwner | undefined>;
}
