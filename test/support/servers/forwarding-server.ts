import {
  createServer,
  type IncomingMessage,
  request,
  type RequestListener,
  type ServerResponse,
} from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";

/** Starts an HTTP server on a free port of this machine. `close` ends its connections too. */
export async function startLocalServer(onRequest: RequestListener) {
  const server = createServer(onRequest);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async (): Promise<void> => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** Sends a request on to the target. `onAnswer` gets the answer of the target. */
export function forwardRequest(
  targetUrl: string,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  onAnswer: (response: IncomingMessage) => void,
): void {
  const { method, headers, url } = incoming;
  const upstream = request(targetUrl + url, { method, headers }, onAnswer);
  upstream.on("error", () => outgoing.destroy());
  outgoing.on("close", () => upstream.destroy());
  incoming.pipe(upstream);
}

/** Sends an answer of the target on to the client. */
export function passAnswer(response: IncomingMessage, outgoing: ServerResponse): void {
  outgoing.writeHead(response.statusCode ?? 502, response.headers);
  response.pipe(outgoing);
}
