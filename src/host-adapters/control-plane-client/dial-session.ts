import type { DialSession } from "../../agent/ports/session-port.ts";
import type { DialSocket } from "../../contracts/sessions/session-socket.ts";
import type { HostCredentials } from "./host-credentials.ts";

/** Connects to the API for sessions, with the current credential of the host. */
export function createSessionDialer({
  apiUrl,
  credentials,
  dialSocket,
}: {
  apiUrl: string;
  credentials: HostCredentials;
  dialSocket: DialSocket;
}): DialSession {
  return (sessionId, signal) =>
    dialSocket(`${apiUrl}/agent/v1/sessions/${sessionId}`, {
      headers: { authorization: `Bearer ${credentials.current}` },
      signal,
    });
}
