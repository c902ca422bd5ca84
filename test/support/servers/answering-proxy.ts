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
  /** Rewrites each JSON body that the API answers, like a newer API. */
  rewrite: ((body: string) => string) | undefined;
  /** The number of requests that the proxy has answered itself. */
  answered: number;
  close(): Promise<void>;
}

/** An HTTP proxy before an API, such as an ingress, that can answer in place of the API. */
export async function startAnsweringProxy(targetUrl: string): Promise<AnsweringProxy> {
  const server = createServer((incoming, outgoing) => {
    if (!proxy.answer) return forward(targetUrl, incoming, outgoing, proxy.rewrite);
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
    rewrite: undefined,
    answered: 0,
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
  rewrite: AnsweringProxy["rewrite"],
): void {
  const { method, headers, url } = incoming;
  const upstream = request(targetUrl + url, { method, headers }, (response) => {
    const status = response.statusCode ?? 502;
    if (!rewrite) {
      outgoing.writeHead(status, response.headers);
      response.pipe(outgoing);
      return;
    }
    let text = "";
    response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
    response.on("end", () => {
      const { "content-length": _length, ...otherHeaders } = response.headers;
      outgoing.writeHead(status, otherHeaders).end(rewrite(text));
    });
  });
  upstream.on("error", () => outgoing.destroy());
  outgoing.on("close", () => upstream.destroy());
  incoming.pipe(upstream);
}
