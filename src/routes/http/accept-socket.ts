import { AppError } from "../../contracts/common/app-error.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { ApiContext } from "./api-env.ts";

/** The use of an accepted WebSocket. The server calls exactly one of the two. */
export interface SocketUse {
  /** Receives the paused connection after the handshake. */
  run: (socket: SessionSocket) => void;
  /** Called when the peer disconnects before the end of the handshake. */
  abandon: () => void;
}

/** The member of the environment of a request for a WebSocket. */
export interface SocketEnv {
  acceptSocket?: (use: SocketUse) => void;
}

/**
 * Returns the function that accepts the WebSocket of the request, and gives the response for it.
 * Throws invalid-request for another request. Call it before other work.
 */
export function prepareSocket(c: ApiContext): (use: SocketUse) => Response {
  // On Workers and in tests, a request has no environment.
  const { acceptSocket } = (c.env ?? {}) as SocketEnv;
  if (!acceptSocket) {
    throw new AppError("invalid-request", {
      detail: "Connect with a WebSocket: send the header `Upgrade: websocket`.",
    });
  }
  return (use) => {
    acceptSocket(use);
    return c.body(null, 200);
  };
}
