import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { type WebSocket, WebSocketServer } from "ws";
import { FRAME_BYTES_MAX } from "../../contracts/sessions/frames.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { SessionRelay } from "../../control/session-relay/session-relay.ts";
import type { SocketEnv, SocketUse } from "../../routes/http/accept-socket.ts";
import type { HttpApp } from "./http-app.ts";
import { HOST_HEADER, INTERNAL_PATH, SECRET_HEADER } from "./internal-request.ts";

/** Answers to pings that wait for a peer, which may send pings and read nothing. */
const PONGS_WAITING_MAX = 8;
const REFUSAL_BYTES_MAX = 64 * 1024;
/** A refused client gets this time to read the refusal, and to close its end. */
const REFUSAL_MS = 2_000;

/**
 * Answers requests for WebSockets with the app. A handler accepts one by `prepareSocket`. Any other
 * answer, such as a problem, is sent unchanged. Returns the function that ends all WebSockets.
 */
export function serveWebSockets(
  server: Server,
  app: HttpApp,
  relay: SessionRelay,
  { refusalMs = REFUSAL_MS }: { refusalMs?: number } = {},
): () => void {
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: FRAME_BYTES_MAX,
    autoPong: false,
  });
  server.on("upgrade", (incoming, socket: Duplex, head) => {
    socket.on("error", () => socket.destroy());
    const upgrade = { incoming, socket, head };
    if (!isWebSocket(incoming)) return serveWithoutUpgrade(server, upgrade);
    answerUpgrade(sockets, app, relay, upgrade)
      .then((refusal) => refusal && writeRefusal(socket, refusal, refusalMs))
      .catch(() => socket.destroy());
  });
  return () => {
    for (const socket of sockets.clients) socket.terminate();
  };
}

/** A WebSocket begins with GET. The body of another method would be lost. */
function isWebSocket({ method, headers }: IncomingMessage): boolean {
  return method === "GET" && headers.upgrade?.toLowerCase() === "websocket";
}

interface Upgrade {
  incoming: IncomingMessage;
  socket: Duplex;
  head: Buffer;
}

/** Resolves with the response of a refusal. */
async function answerUpgrade(
  sockets: WebSocketServer,
  app: HttpApp,
  relay: SessionRelay,
  upgrade: Upgrade,
): Promise<Response | undefined> {
  const { incoming, socket } = upgrade;
  if (incoming.url?.startsWith(INTERNAL_PATH)) {
    const run = findPassedOn(relay, incoming);
    if (!run) return new Response(null, { status: 404 });
    shakeHands(sockets, upgrade, { run, abandon: () => undefined });
    return undefined;
  }
  const leaving = new AbortController();
  const unwatch = watchEnd(socket, () => leaving.abort(new Error("the client disconnected")));
  let use: SocketUse | undefined;
  let isAnswered = false;
  const env: SocketEnv & { incoming: IncomingMessage } = {
    incoming,
    acceptSocket: (accepted) => {
      // The time limit of the request has passed before: nothing else would end what it opened.
      if (isAnswered) accepted.abandon();
      else use = accepted;
    },
  };
  const response = await app.fetch(toRequest(incoming, leaving.signal), env);
  isAnswered = true;
  unwatch();
  if (!use) return response;
  shakeHands(sockets, upgrade, use);
  return undefined;
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
    // It closes itself after a malformed frame. Without a listener, that would end the process.
    opened.on("error", () => undefined);
    answerPings(opened);
    run(opened);
  });
  if (!outcome.isOpen) abandon();
}

/** A peer with unread answers gets no further ones, as RFC 6455 (5.5.3) permits. */
function answerPings(socket: WebSocket): void {
  let waiting = 0;
  socket.on("ping", (data: Uint8Array) => {
    if (waiting === PONGS_WAITING_MAX) return;
    waiting++;
    socket.pong(data, false, () => void waiting--);
  });
}

/** The path is that of the request line: a Host header with a slash would name another one. */
function toRequest(incoming: IncomingMessage, signal: AbortSignal): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  return new Request(`http://localhost${incoming.url ?? "/"}`, { headers, signal });
}

/**
 * Sends a response with a short body, and closes the connection. The HTTP server no longer has a
 * timer for it. So a client that never closes its end gets a short time.
 */
async function writeRefusal(socket: Duplex, response: Response, refusalMs: number): Promise<void> {
  const isJson = response.headers.get("content-type")?.includes("json") === true;
  const isProblem = isJson && response.status >= 400;
  // The body of a stream would not end.
  const text = isProblem ? (await response.text()).slice(0, REFUSAL_BYTES_MAX) : "";
  if (!isProblem) await response.body?.cancel();
  const status = isProblem || response.status === 404 ? response.status : 426;
  const headers = new Headers(response.headers);
  headers.set("connection", "close");
  headers.set("content-length", String(Buffer.byteLength(text)));
  headers.delete("transfer-encoding");
  const lines = [...headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  const timer = setTimeout(() => socket.destroy(), refusalMs);
  socket.once("close", () => clearTimeout(timer));
  socket.end(`HTTP/1.1 ${status} Refused\r\n${lines}\r\n${text}`);
  socket.resume(); // without a reader, the end of the client is never seen
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
