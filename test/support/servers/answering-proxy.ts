import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";

/** The answer of a proxy that does not ask the API. */
export interface ProxyAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

export interface AnsweringProxy {
  url: string;
  /** While it is defined, the proxy answers each request with it. */
  answer: ProxyAnswer | undefined;
  /** The number of requests that the proxy has answered itself. */
  answered: number;
  close(): Promise<void>;
}

/** An HTTP proxy before an API, such as an ingress, that can answer in place of the API. */
export async function startAnsweringProxy(targetUrl: string): Promise<AnsweringProxy> {
  const server = createServer((incoming, outgoing) => {
    if (!proxy.answer) return forward(targetUrl, incoming, outgoing);
    proxy.answered++;
    incoming.resume();
    outgoing.writeHead(proxy.answer.status, proxy.answer.headers).end(proxy.answer.body);
    return undefined;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy: AnsweringProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answer: undefined,
    answered: 0,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return proxy;
}

function forward(targetUrl: string, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { method, headers, url } = incoming;
  const upstream = request(targetUrl + url, { method, headers }, (response) => {
    outgoing.writeHead(response.statusCode ?? 502, response.headers);
    response.pipe(outgoing);
  });
  upstream.on("error", () => outgoing.destroy());
  outgoing.on("close", () => upstream.destroy());
  incoming.pipe(upstream);
}
