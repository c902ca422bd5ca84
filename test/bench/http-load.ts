import { connect, type Socket } from "node:net";

/**
 * A process that sends GET requests over keep-alive connections, one at a time on each, and counts
 * the answers. It writes raw HTTP, so that the client costs as little CPU as possible beside the
 * server.
 *
 * The parent sends one order after the other; the process answers each with a `LoadResult`.
 */

export interface LoadOrder {
  port: number;
  /** Requests take turns over these. */
  paths: string[];
  headers: Record<string, string>;
  connections: number;
  durationMs: number;
}

export interface LoadResult {
  requests: number;
  durationMs: number;
  /** The first answer that was not 200 or that the client cannot read. */
  failure: string | undefined;
}

const headEnd = Buffer.from("\r\n\r\n");

process.on("message", (order: LoadOrder) => {
  void runLoad(order).then((result) => process.send?.(result));
});
process.on("disconnect", () => process.exit(0));

async function runLoad(order: LoadOrder): Promise<LoadResult> {
  const { port, paths, headers, connections, durationMs } = order;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const requests = paths.map((path) =>
    Buffer.from(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${lines.join("")}\r\n`),
  );
  const startedAtMs = performance.now();
  const untilMs = startedAtMs + durationMs;
  const state = { count: 0, next: 0, failure: undefined as string | undefined };
  const takeRequest = (): Buffer | undefined =>
    performance.now() < untilMs && state.failure === undefined
      ? requests[state.next++ % requests.length]
      : undefined;
  await Promise.all(
    Array.from({ length: connections }, () =>
      useConnection(port, takeRequest, () => state.count++).catch((error: unknown) => {
        state.failure ??= String(error);
      }),
    ),
  );
  return {
    requests: state.count,
    durationMs: performance.now() - startedAtMs,
    failure: state.failure,
  };
}

/** Sends requests until `takeRequest` has none. Rejects for an answer that is not a 200. */
async function useConnection(
  port: number,
  takeRequest: () => Buffer | undefined,
  onAnswer: () => void,
): Promise<void> {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  try {
    await new Promise<void>((resolve, reject) => {
      const send = (): void => {
        const request = takeRequest();
        if (request) socket.write(request);
        else resolve();
      };
      socket.once("connect", send);
      socket.once("error", reject);
      socket.once("close", () => reject(new Error("the server closed a connection")));
      readAnswers(
        socket,
        () => {
          onAnswer();
          send();
        },
        reject,
      );
    });
  } finally {
    socket.destroy();
  }
}

function readAnswers(
  socket: Socket,
  onAnswer: () => void,
  onFailure: (error: Error) => void,
): void {
  let received = Buffer.alloc(0);
  /** Undefined until the head is complete. */
  let answerBytes: number | undefined;
  socket.on("data", (chunk) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    if (answerBytes === undefined) {
      const end = received.indexOf(headEnd);
      if (end === -1) return;
      const head = received.toString("latin1", 0, end);
      const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
      if (!head.startsWith("HTTP/1.1 200 ") || length === undefined) {
        onFailure(new Error(`unexpected answer: ${head}`));
        return;
      }
      answerBytes = end + headEnd.length + Number(length);
    }
    if (received.length < answerBytes) return;
    received = received.subarray(answerBytes);
    answerBytes = undefined;
    onAnswer();
  });
}
