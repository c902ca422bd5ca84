import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import { FRAME_BYTES_MAX } from "../../contracts/sessions/frames.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { SessionRelay } from "../../control/session-relay/session-relay.ts";
import type { SocketEnv, SocketUse } from "../../routes/http/accept-socket.ts";
import type { HttpApp } from "./http-app.ts";
import { HOST_HEADER, INTERNAL_PATH, SECRET_HEADER } from "./internal-request.ts";

const REFUSAL_BYTES_MAX = 64 * 1024;

/**
 * Answers requests for WebSockets with the app. A handler accepts one by `prepareSocket`. Any other
 * answer, such as a problem, is sent unchanged. Returns the function that ends all WebSockets.
 */
export function serveWebSockets(server: Server, app: HttpApp, relay: SessionRelay): () => void {
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: FRAME_BYTES_MAX,
  });
  server.on("upgrade", (incoming, socket: Duplex, head) => {
    socket.on("error", () => socket.destroy());
    if (incoming.headers.upgrade?.toLowerCase() !== "websocket")
      return serveWithoutUpgrade(server, { incoming, socket, head });
    answerUpgrade(sockets, app, relay, { incoming, socket, head }).catch(() => socket.destroy());
  });
  return () => {
    for (const socket of sockets.clients) socket.terminate();
  };
}

interface Upgrade {
  incoming: IncomingMessage;
  socket: Duplex;
  head: Buffer;
}

async function answerUpgrade(
  sockets: WebSocketServer,
  app: HttpApp,
  relay: SessionRelay,
  upgrade: Upgrade,
): Promise<void> {
  const { incoming, socket } = upgrade;
  if (incoming.url?.startsWith(INTERNAL_PATH)) {
    const run = findPassedOn(relay, incoming);
    if (run) return shakeHands(sockets, upgrade, { run, abandon: () => undefined });
    return writeRefusal(socket, new Response(null, { status: 404 }));
  }
  const leaving = new AbortController();
  const unwatch = watchEnd(socket, () => leaving.abort(new Error("the client disconnected")));
  let use: SocketUse | undefined;
  const env: SocketEnv & { incoming: IncomingMessage } = {
    incoming,
    acceptSocket: (accepted) => {
      use = accepted;
    },
  };
  const response = await app.fetch(toRequest(incoming, leaving.signal), env);
  unwatch();
  if (use) shakeHands(sockets, upgrade, use);
  else await writeRefusal(socket, response);
}

/**
 * Calls back when the client disconnects before the handshake. No other code reads the socket until
 * then, so its end causes no event of its own. Early bytes stay in the socket for the handshake.
 */
function watchEnd(socket: Duplex, onEnd: () => void): () => void {
  const check = (): void => {
    if (socket.readableLength === 0) onEnd();
  };
  socket.on("readable", check).once("close", onEnd);
  return () => void socket.off("readable", check).off("close", onEnd);
}

function findPassedOn(
  relay: SessionRelay,
  { url = "", headers }: IncomingMessage,
): ((socket: SessionSocket) => void) | undefined {
  const sessionId = url.slice(INTERNAL_PATH.length);
  const { [SECRET_HEADER]: secret, [HOST_HEADER]: hostId } = headers;
  if (typeof secret !== "string" || typeof hostId !== "string") return undefined;
  return relay.findPassedOn({ sessionId, hostId }, secret);
}

/** The handshake is synchronous. It fails for a malformed key, for example. */
function shakeHands(
  sockets: WebSocketServer,
  { incoming, socket, head }: Upgrade,
  { run, abandon }: SocketUse,
): void {
  if (socket.destroyed) return abandon();
  const outcome = { isOpen: false };
  sockets.handleUpgrade(incoming, socket, head, (opened) => {
    outcome.isOpen = true;
    opened.pause();
    run(opened);
  });
  if (!outcome.isOpen) abandon();
}

function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  const host = headers.get("host") ?? "localhost";
  return new Request(`http://${host}${incoming.url ?? "/"}`, { headers, signal });
}

/** Sends a response with a short body, and closes the connection. */
async function writeRefusal(socket: Duplex, response: Response): Promise<void> {
  const isProblem = response.headers.get("content-type")?.includes("json") === true;
  // The body of a stream would not end.
  const text = isProblem ? (await response.text()).slice(0, REFUSAL_BYTES_MAX) : "";
  if (!isProblem) await response.body?.cancel();
  const status = isProblem || response.status === 404 ? response.status : 426;
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  headers.set("content-length", String(Buffer.byteLength(text)));
  headers.delete("transfer-encoding");
  const lines = [...headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.end(`HTTP/1.1 ${status} Refused\r\n${lines}\r\n${text}`);
}

/**
 * Serves a request for another protocol, such as HTTP/2 without TLS of Java's client, as if it had
 * no such header. Node stops reading HTTP at such a request once a server has a listener for
 * upgrades. So this hands the connection back to the server, with the request before its rest.
 */
function serveWithoutUpgrade(server: Server, { incoming, socket, head }: Upgrade): void {
  const { method, url, httpVersion, rawHeaders } = incoming;
  let text = `${method} ${url} HTTP/${httpVersion}\r\n`;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at] ?? "";
    if (!/^(upgrade|http2-settings|connection)$/i.test(name))
      text += `${name}: ${rawHeaders[at + 1]}\r\n`;
  }
  socket.removeAllListeners("error");
  socket.unshift(Buffer.concat([Buffer.from(`${text}\r\n`, "latin1"), head]));
  server.emit("connection", socket);
}
