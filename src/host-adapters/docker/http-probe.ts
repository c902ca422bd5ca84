import { connect } from "node:net";
import { truncate } from "../../lib/text/truncate.ts";
import type { ProbeResult } from "../../agent/model/local-set.ts";
import { withinTimeout } from "./probe-timeout.ts";

/** Interim answers, such as early hints, count too. */
const answerBytesMax = 64 * 1_024;
const quotedCharsMax = 80;
const tlsRecordTypes = [0x15, 0x16];

/**
 * Sends GET and reads the answer only up to its final status line. So headers that a strict parser
 * refuses do not make a container unhealthy, as they do not stop curl or a browser. It follows no
 * redirects.
 */
export function probeByHttp(
  { address, port, path }: { address: string; port: number; path: string },
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return withinTimeout(timeoutSeconds, signal, (probeSignal, settle) => {
    const socket = connect({ host: address, port, signal: probeSignal });
    const answer = new HttpAnswer({ port, path }, (result) => {
      socket.destroy();
      settle(result);
    });
    socket.on("connect", () => socket.write(formatRequest({ address, port, path })));
    socket.on("data", (chunk) => answer.add(chunk));
    socket.on("end", () => answer.end());
    socket.on("error", (error) => answer.fail(error.message));
  });
}

/** Judges an answer while it arrives. */
export class HttpAnswer {
  readonly #request: { port: number; path: string };
  readonly #settle: (result: ProbeResult) => void;
  #received = Buffer.alloc(0);

  constructor(request: { port: number; path: string }, settle: (result: ProbeResult) => void) {
    this.#request = request;
    this.#settle = settle;
  }

  add(chunk: Uint8Array): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    this.#judge(false);
  }

  /** The server sends no more bytes. */
  end(): void {
    this.#judge(true);
  }

  fail(reason: string): void {
    this.#refuse(`: ${reason}`);
  }

  #judge(isComplete: boolean): void {
    const status = readStatus(this.#received, isComplete);
    if (status === undefined) return;
    if (typeof status === "string") this.#refuse(status);
    else if (status >= 200 && status < 400) this.#settle({ healthy: true });
    else this.#refuse(` answered ${status}${explainStatus(status, this.#received)}`);
  }

  #refuse(detail: string): void {
    const { port, path } = this.#request;
    this.#settle({ healthy: false, detail: `GET ${path} on port ${port}${detail}` });
  }
}

export function formatRequest({
  address,
  port,
  path,
}: {
  address: string;
  port: number;
  path: string;
}): string {
  const host = address.includes(":") ? `[${address}]` : address;
  return [
    `GET ${path} HTTP/1.1`,
    `Host: ${host}:${port}`,
    "User-Agent: berth-health-check",
    "Accept: */*",
    "Connection: close",
    "\r\n",
  ].join("\r\n");
}

/**
 * The final status, a text that says why there is none, or undefined if more bytes are needed.
 *
 * @param isComplete the server sends no more bytes
 */
function readStatus(received: Buffer, isComplete: boolean): number | string | undefined {
  if (isTlsRecord(received)) return " speaks TLS, and the check expects plain HTTP";
  let text = received.subarray(0, answerBytesMax).toString("latin1");
  for (;;) {
    const [line = ""] = text.split("\n", 1);
    const isWholeLine = text.length > line.length;
    if (!"HTTP/".startsWith(line.slice(0, 5))) return describeOtherProtocol(line);
    if (isWholeLine || isComplete) {
      const status = /^HTTP\/\d(?:\.\d)? +(\d{3})(?: |\r?$)/.exec(line)?.[1];
      if (status === undefined)
        return line === ""
          ? " closed the connection without an answer"
          : describeOtherProtocol(line);
      if (!isInterim(Number(status))) return Number(status);
      // An empty line ends an interim answer. The next one follows it.
      const end = /\r?\n\r?\n/.exec(text);
      if (end) {
        text = text.slice(end.index + end[0].length);
        continue;
      }
    }
    if (isComplete) return " closed the connection without a final answer";
    if (received.length < answerBytesMax) return undefined;
    return ` sent no final status within ${answerBytesMax} bytes`;
  }
}

/** 101 is final, because the request names no other protocol. */
function isInterim(status: number): boolean {
  return status >= 100 && status < 200 && status !== 101;
}

function isTlsRecord(received: Buffer): boolean {
  return tlsRecordTypes.includes(received[0] ?? 0) && received[1] === 3;
}

/** Servers such as nginx and Go's answer plain HTTP on a TLS port with 400 and a text. */
function explainStatus(status: number, received: Buffer): string {
  const isTls = status === 400 && /https|\b(ssl|tls)\b/i.test(received.toString("latin1"));
  return isTls ? " because the port speaks TLS, and the check expects plain HTTP" : "";
}

function describeOtherProtocol(line: string): string {
  const printable = line.replace(/[^ -~]/g, "").trim();
  return ` answered without an HTTP status: "${truncate(printable, quotedCharsMax)}"`;
}
