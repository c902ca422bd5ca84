import { forwardRequest, passAnswer, startLocalServer } from "./forwarding-server.ts";

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
  const server = await startLocalServer((incoming, outgoing) => {
    const isTooLong = Number(incoming.headers["content-length"] ?? 0) > proxy.bodyBytesMax;
    const answer = isTooLong ? tooLong : proxy.answer;
    if (!answer) {
      forwardRequest(targetUrl, incoming, outgoing, (response) => {
        const { rewrite } = proxy;
        if (!rewrite) {
          passAnswer(response, outgoing);
          return;
        }
        let text = "";
        response.setEncoding("utf8").on("data", (piece: string) => (text += piece));
        response.on("end", () => {
          const { "content-length": _length, ...otherHeaders } = response.headers;
          outgoing.writeHead(response.statusCode ?? 502, otherHeaders).end(rewrite(text));
        });
      });
      return;
    }
    proxy.answered++;
    incoming.resume();
    outgoing.writeHead(answer.status, answer.headers).end(answer.body);
  });
  const proxy: AnsweringProxy = {
    ...server,
    answer: undefined,
    bodyBytesMax: Number.POSITIVE_INFINITY,
    rewrite: undefined,
    answered: 0,
  };
  return proxy;
}
