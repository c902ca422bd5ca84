import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { JoinedSockets } from "../../../src/control/session-relay/joined-sockets.ts";
import { SessionRelay } from "../../../src/control/session-relay/session-relay.ts";
import type { SessionSocket } from "../../../src/contracts/sessions/session-socket.ts";
import { createSocketDialer } from "../../../src/main/compose/dial-web-socket.ts";
import { serveWebSockets } from "../../../src/main/compose/serve-web-sockets.ts";
import type { SocketEnv } from "../../../src/routes/http/accept-socket.ts";
import { createLocalDirectory } from "../fakes/local-sessions.ts";

/**
 * A program of session-memory.test.ts. `server` joins the two sockets of each session, as a process
 * of the API does. It prints a line of JSON for each line of its input. `peers URL N` opens both
 * sockets of N sessions.
 */
const [role, url = "", countText = "0"] = process.argv.slice(2);

function runServer(): void {
  const relay = new SessionRelay({
    directory: createLocalDirectory(),
    dialOwner: () => Promise.reject(new Error("there is no other process")),
  });
  const waiting = new Map<string, SessionSocket>();
  const server = createServer();
  const fetch = (request: Request, env?: object): Response => {
    const { pathname } = new URL(request.url);
    (env as SocketEnv).acceptSocket?.({
      run: (socket) => {
        const other = waiting.get(pathname);
        if (!other) return void waiting.set(pathname, socket);
        waiting.delete(pathname);
        const onEnd = (): void => relay.live.remove(joined);
        const joined = new JoinedSockets(socket, other, { onEnd });
        relay.live.add(joined);
      },
      abandon: () => undefined,
    });
    return new Response();
  };
  serveWebSockets(server, { fetch }, relay);
  const print = (): void => {
    globalThis.gc?.();
    const memory = { sessions: relay.live.size, rssBytes: process.memoryUsage.rss() };
    process.stdout.write(`${JSON.stringify(memory)}\n`);
  };
  process.stdin.on("data", (line) => {
    if (String(line) === "ping\n") relay.live.checkAll();
    print();
  });
  server.listen({ port: 0, host: "127.0.0.1", backlog: 4_096 }, () => {
    const { port } = server.address() as AddressInfo;
    process.stdout.write(`${JSON.stringify({ ready: true, url: `http://127.0.0.1:${port}` })}\n`);
    print();
  });
}

async function runPeers(): Promise<void> {
  const dial = createSocketDialer();
  const count = Number(countText);
  for (let session = 0; session < count; session += 50) {
    const batch = Array.from({ length: 100 }, (_, at) => session + (at >> 1));
    for (const socket of await Promise.all(
      batch.map((id) => dial(`${url}/${id}`, { headers: {} })),
    )) {
      socket.on("error", () => undefined);
      socket.resume();
    }
  }
  process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
}

if (role === "server") runServer();
else await runPeers();
