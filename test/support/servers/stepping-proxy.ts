import { forwardRequest, passAnswer, startLocalServer } from "./forwarding-server.ts";

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
  const server = await startLocalServer((incoming, outgoing) => {
    const bearer = (incoming.headers.authorization ?? "").replace(/^Bearer /, "");
    const step = proxy.decide((incoming.url ?? "").replace(/\?.*/, ""), bearer);
    if (step === "lose-request") {
      incoming.socket.resetAndDestroy();
      return;
    }
    forwardRequest(targetUrl, incoming, outgoing, (response) => {
      if (step === "forward") passAnswer(response, outgoing);
      else
        response.resume().on("end", () => {
          proxy.onAnswerLost();
          incoming.socket.resetAndDestroy();
        });
    });
  });
  const proxy: SteppingProxy = {
    ...server,
    decide: () => "forward",
    onAnswerLost: () => undefined,
  };
  return proxy;
}
