/** The path at which another process of the API passes on the connection of an agent. */
export const INTERNAL_PATH = "/internal/v1/sessions/";
export const SECRET_HEADER = "berth-session-secret";
export const HOST_HEADER = "berth-session-host";

/** The URL and the headers of a connection to the owner of a session. */
export function toInternalRequest(
  { url, secret }: { url: string; secret: string },
  { sessionId, hostId }: { sessionId: string; hostId: string },
): { url: string; headers: Record<string, string> } {
  const headers = { [SECRET_HEADER]: secret, [HOST_HEADER]: hostId };
  return { url: `${url}${INTERNAL_PATH}${sessionId}`, headers };
}
