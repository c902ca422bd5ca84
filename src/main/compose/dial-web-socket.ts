import type { IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import { SocketRefused } from "../../contracts/sessions/socket-refused.ts";
import { FRAME_BYTES_MAX } from "../../contracts/sessions/frames.ts";
import type { DialSocket, SessionSocket } from "../../contracts/sessions/session-socket.ts";

/** The agent and the owner of a session answer within 10 s. */
const HANDSHAKE_TIMEOUT_MS = 20_000;
const REFUSAL_BYTES_MAX = 64 * 1024;

/**
 * Creates the function that opens WebSockets to the API. The sockets are paused. It rejects with
 * SocketRefused after an answer that is not a handshake.
 *
 * @param ca PEM of the certificate authority of the API
 */
export function createSocketDialer({ ca }: { ca?: string | undefined } = {}): DialSocket {
  return async (url, { headers, signal }) => {
    signal?.throwIfAborted();
    const socket = new WebSocket(url.replace(/^http/, "ws"), {
      headers,
      perMessageDeflate: false,
      maxPayload: FRAME_BYTES_MAX,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
      ...(ca === undefined ? {} : { ca }),
    });
    const abort = (): void => socket.terminate();
    signal?.addEventListener("abort", abort, { once: true });
    try {
      return await untilOpen(socket);
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  };
}

function untilOpen(socket: WebSocket): Promise<SessionSocket> {
  return new Promise((resolve, reject) => {
    socket.once("open", () => {
      socket.pause();
      // It closes itself after a malformed frame. Without a listener, that would end the process.
      socket.on("error", () => undefined);
      socket.off("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
    socket.once("unexpected-response", (request, response) => {
      readRefusal(response)
        .then((text) => reject(new SocketRefused(response.statusCode ?? 0, text)), reject)
        .finally(() => request.destroy());
    });
  });
}

async function readRefusal(response: IncomingMessage): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    chunks.push(chunk as Uint8Array);
    bytes += (chunk as Uint8Array).length;
    if (bytes > REFUSAL_BYTES_MAX) break;
  }
  return Buffer.concat(chunks).toString("utf8");
}
