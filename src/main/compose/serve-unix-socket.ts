import { chmod, mkdir, rename, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import path from "node:path";
import type { Log } from "../../lib/log.ts";
import { closeServer } from "./close-server.ts";
import type { ProcessContext } from "./run-process.ts";

const CONNECTIONS_MAX = 512;
const HEADERS_TIMEOUT_MS = 5_000;
/** For the whole request, not for its answer. */
const REQUEST_TIMEOUT_MS = 10_000;
/** Clients on this machine reuse their connections. */
const KEEP_ALIVE_MS = 75_000;

export interface UnixSocketOptions {
  socketPath: string;
  contentType: string;
  bodyBytesMax: number;
  answer: (request: {
    method: string;
    path: string;
    body: string;
  }) => Promise<{ status: number; body: object }>;
}

/**
 * Serves HTTP on a Unix socket to which only root can connect, until the shutdown. The socket
 * appears under its name once it accepts connections, and replaces that of a killed process. So the
 * caller excludes a second process by a lock. The file stays at the end: clients such as Docker
 * then retry, and do not conclude that there is no such service.
 */
export async function serveUnixSocket(
  options: UnixSocketOptions,
  { shutdown, log }: Pick<ProcessContext, "shutdown" | "log">,
): Promise<void> {
  const { socketPath } = options;
  await mkdir(path.dirname(socketPath), { recursive: true, mode: 0o700 });
  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    (request, response) => void answerRequest(request, response, options, log),
  );
  server.maxConnections = CONNECTIONS_MAX;
  const unfinished = `${socketPath}.new`;
  await rm(unfinished, { force: true });
  await listen(server, unfinished);
  await chmod(unfinished, 0o600);
  await rename(unfinished, socketPath);
  shutdown.add(path.basename(socketPath), () => closeServer(server, () => undefined));
}

async function listen(server: Server, socketPath: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(socketPath, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

async function answerRequest(
  request: IncomingMessage,
  response: ServerResponse,
  { answer, bodyBytesMax, contentType }: UnixSocketOptions,
  log: Log,
): Promise<void> {
  const send = (status: number, body: object): void => {
    response.writeHead(status, { "content-type": contentType });
    response.end(JSON.stringify(body));
  };
  try {
    const body = await readBody(request, bodyBytesMax);
    if (body === undefined) {
      response.setHeader("connection", "close");
      return send(413, { Err: `The request is larger than ${bodyBytesMax} bytes.` });
    }
    const { method = "", url = "" } = request;
    const answered = await answer({ method, path: url, body });
    return send(answered.status, answered.body);
  } catch (error) {
    log.error({ err: error, path: request.url }, "cannot answer a request");
    if (!response.headersSent) return send(500, { Err: "The process failed. See its log." });
    return undefined;
  }
}

/** Undefined if the body is too large. */
async function readBody(request: IncomingMessage, bytesMax: number): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > bytesMax) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
