import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";

/**
 * - forward: the request and its answer pass.
 * - lose-request: the target never gets it, and the client gets a reset.
 * - lose-answer: the target answers, and then the client gets a reset.
 */
export type ProxyStep = "forward" | "lose-request" | "lose-answer";

export interface SteppingProxy {
  url: string;
  /** Decides about each request. It may first do something, such as the kill of a process. */
  decide: (path: string, bearer: string) => ProxyStep;
  /** Called when the target has answered a request whose answer is lost. */
  onAnswerLost: () => void;
  close(): Promise<void>;
}

/** An HTTP proxy that loses the requests and answers which a test names. */
export async function startSteppingProxy(targetUrl: string): Promise<SteppingProxy> {
  const server = createServer((incoming, outgoing) => {
    const bearer = (incoming.headers.authorization ?? "").replace(/^Bearer /, "");
    const step = proxy.decide((incoming.url ?? "").replace(/\?.*/, ""), bearer);
    if (step === "lose-request") incoming.socket.resetAndDestroy();
    else forward(targetUrl, incoming, outgoing, step === "forward" ? undefined : proxy);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy: SteppingProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    decide: () => "forward",
    onAnswerLost: () => undefined,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}

function forward(
  targetUrl: string,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  loser: SteppingProxy | undefined,
): void {
  const { method, headers, url } = incoming;
  const upstream = request(targetUrl + url, { method, headers }, (response) => {
    if (loser === undefined) {
      outgoing.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(outgoing);
      return;
    }
    response.resume().on("end", () => {
      loser.onAnswerLost();
      incoming.socket.resetAndDestroy();
    });
  });
  upstream.on("error", () => outgoing.destroy());
  outgoing.on("close", () => upstream.destroy());
  incoming.pipe(upstream);
}
