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
  /** The proxy refuses longer bodies with 413, as nginx does by default above 1 MiB. */
  bodyBytesMax: number;
  /** Rewrites each JSON body that the API answers, like a newer API. */
  rewrite: ((body: string) => string) | undefined;
  /** The number of requests that the proxy has answered itself. */
  answered: number;
  close(): Promise<void>;
}

const tooLong: ProxyAnswer = { status: 413, headers: {}, body: "Request Entity Too Large" };

/** An HTTP proxy before an API, such as an ingress, that can answer in place of the API. */
export async function startAnsweringProxy(targetUrl: string): Promise<AnsweringProxy> {
  const server = createServer((incoming, outgoing) => {
    const isTooLong = Number(incoming.headers["content-length"] ?? 0) > proxy.bodyBytesMax;
    const answer = isTooLong ? tooLong : proxy.answer;
    if (!answer) return forward(targetUrl, incoming, outgoing, () => proxy.rewrite);
    proxy.answered++;
    incoming.resume();
    outgoing.writeHead(answer.status, answer.headers).end(answer.body);
    return undefined;
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const proxy: AnsweringProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    answer: undefined,
    bodyBytesMax: Number.POSITIVE_INFINITY,
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
  findRewrite: () => AnsweringProxy["rewrite"],
): void {
  const { method, headers, url } = incoming;
  const upstream = request(targetUrl + url, { method, headers }, (response) => {
    const status = response.statusCode ?? 502;
    const rewrite = findRewrite();
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
