import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createLocalSessions } from "../../../test/support/fakes/local-sessions.ts";
import { waitUntil } from "../../../test/support/wait-until.ts";
import type { SessionSocket } from "../../contracts/sessions/session-socket.ts";
import type { SocketEnv } from "../../routes/http/accept-socket.ts";
import { newId } from "../../lib/ids.ts";
import type { HttpApp } from "./http-app.ts";
import { serveWebSockets } from "./serve-web-sockets.ts";

const relay = createLocalSessions();
let answer: HttpApp["fetch"];
let server: Server;
let endSockets: () => void;

beforeEach(async () => {
  server = createServer((request, response) => void response.end(request.method));
  endSockets = serveWebSockets(server, { fetch: (request, env) => answer(request, env) }, relay, {
    refusalMs: 200,
  });
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
});
afterEach(async () => {
  endSockets();
  await new Promise((resolve) => {
    server.close(resolve);
  });
});

/** A client that writes its own bytes. It closes its end only when the test does. */
function openClient({ method = "GET", host = "berth" } = {}): {
  socket: Socket;
  text: () => string;
} {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  let text = "";
  socket.on("data", (chunk) => void (text += chunk.toString("latin1")));
  socket.on("error", () => undefined);
  const head = [
    `${method} /v1/sessions HTTP/1.1`,
    `Host: ${host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
  ];
  socket.write(`${head.join("\r\n")}\r\n\r\n`);
  return { socket, text: () => text };
}

function countConnections(): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
  });
}

const refuse = () => Response.json({ code: "unauthenticated" }, { status: 401 });

it.each([
  ["never closes its end", (_socket: Socket) => undefined],
  ["sends bytes, and closes its end", (socket: Socket) => void socket.end("more")],
])("leaves no connection of a refused client that %s", async (_title, then) => {
  answer = refuse;
  const { socket, text } = openClient();
  await waitUntil("the refusal arrives", () => text().includes("unauthenticated"));
  expect(text()).toContain("401");
  then(socket);
  await waitUntil("the server has no connection", async () => (await countConnections()) === 0);
  socket.destroy();
});

it("abandons a connection that a handler accepts after the answer", async () => {
  const abandoned: string[] = [];
  answer = async (_request, env) => {
    setTimeout(() => {
      (env as SocketEnv).acceptSocket?.({
        run: () => void abandoned.push("runs"),
        abandon: () => void abandoned.push("abandoned"),
      });
    }, 20);
    return refuse();
  };
  const { socket } = openClient();
  await waitUntil("it is decided", () => abandoned.length > 0);
  expect(abandoned).toEqual(["abandoned"]);
  socket.destroy();
});

it("takes the path from the request line, whatever the Host header is", async () => {
  const paths: string[] = [];
  answer = (request) => {
    paths.push(new URL(request.url).pathname);
    return refuse();
  };
  const { socket, text } = openClient({ host: "berth/v1/sets/set_1/containers/app/exec?" });
  await waitUntil("the refusal arrives", () => text().includes("401"));
  expect(paths).toEqual(["/v1/sessions"]);
  socket.destroy();
});

it("requires a WebSocket instead of sending a part of a long document", async () => {
  answer = () => Response.json({ items: ["x".repeat(100_000)] });
  const { socket, text } = openClient();
  await waitUntil("the answer arrives", () => text().includes("\r\n\r\n"));
  expect(text()).toMatch(/^HTTP\/1.1 426 /);
  socket.destroy();
});

it("serves a request of another method as HTTP, with its method", async () => {
  answer = refuse;
  const { socket, text } = openClient({ method: "DELETE" });
  await waitUntil("the answer arrives", () => text().includes("DELETE"));
  expect(text()).toContain("200 OK");
  socket.destroy();
});

it("bounds the answers to a client that sends pings and reads nothing", async () => {
  const accepted: SessionSocket[] = [];
  let pings = 0;
  answer = async (_request, env) => {
    const run = (opened: SessionSocket): void => {
      accepted.push(opened);
      opened.on("ping", () => void pings++);
      opened.resume();
    };
    (env as SocketEnv).acceptSocket?.({ run, abandon: () => undefined });
    return new Response();
  };
  const { socket, text } = openClient();
  await waitUntil("the handshake is over", () => text().includes("101"));
  socket.pause();
  const ping = Buffer.concat([Buffer.from([0x89, 0x80 | 125, 0, 0, 0, 0]), Buffer.alloc(125)]);
  // More than the buffers of the kernel hold.
  socket.write(Buffer.concat(Array.from({ length: 150_000 }, () => ping)));
  await waitUntil("the pings arrive", () => pings === 150_000);
  expect(accepted[0]?.bufferedAmount).toBeLessThan(64 * 1024);
  socket.destroy();
});

it("survives malformed frames of an agent whose session has ended", async () => {
  const faults: unknown[] = [];
  const note = (error: unknown): void => void faults.push(error);
  process.on("uncaughtException", note);
  const host = { sessionId: newId("ses"), hostId: "host_1" };
  const controller = new AbortController();
  const options = { wake: async () => undefined, signal: controller.signal };
  const request = { sessionId: host.sessionId, setId: newId("set"), container: "app" };
  const requested = relay.request(host.hostId, { ...request, kind: "exec" }, options);
  requested.catch(() => undefined);
  answer = async (_request, env) => {
    const owner = await relay.findOwner(host);
    controller.abort(new Error("the caller has left"));
    await requested.catch(() => undefined);
    (env as SocketEnv).acceptSocket?.({ run: owner.connect, abandon: owner.abandon });
    return new Response();
  };
  const { socket, text } = openClient();
  await waitUntil("the handshake is over", () => text().includes("101"));
  socket.end(Buffer.from([0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]));
  await waitUntil("the server has no connection", async () => (await countConnections()) === 0);
  process.off("uncaughtException", note);
  socket.destroy();
  expect(faults).toEqual([]);
});
