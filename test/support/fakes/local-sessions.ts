import type { SessionRequest } from "../../../src/contracts/agent-protocol/session-request.ts";
import type {
  SessionDirectory,
  SessionOwner,
} from "../../../src/control/session-relay/session-directory.ts";
import { SessionRelay } from "../../../src/control/session-relay/session-relay.ts";

/** SessionDirectory within one process. */
export function createLocalDirectory(): SessionDirectory {
  const requests = new Map<string, SessionRequest[]>();
  const owners = new Map<string, SessionOwner>();
  return {
    announce: async (hostId, request, owner) => {
      owners.set(request.sessionId, owner);
      requests.set(hostId, [...(requests.get(hostId) ?? []), request]);
    },
    takeRequests: async (hostId) => {
      const taken = requests.get(hostId) ?? [];
      requests.delete(hostId);
      return taken;
    },
    findOwner: async (sessionId) => owners.get(sessionId),
  };
}

/** The relay of a process without others. */
export function createLocalSessions(directory = createLocalDirectory()): SessionRelay {
  return new SessionRelay({
    directory,
    dialOwner: () => Promise.reject(new Error("there is no other process")),
  });
}
