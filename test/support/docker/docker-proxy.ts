import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Docker from "dockerode";
import { dockerSocketPath } from "./docker.ts";

/** A proxy in front of a Docker daemon, which records requests and disturbs them. */
export interface DockerProxy {
  docker: Docker;
  socketPath: string;
  /** "GET /containers/json?all=true" for each request, in order, without the API version. */
  readonly requests: string[];
  /** The path of each request, with the API version. */
  readonly paths: string[];
  /** True for a request that gets no answer. */
  hangs: (request: string) => boolean;
  /** Rewrites the JSON of an answer; undefined leaves the answer as it is. */
  rewrites: (request: string) => ((body: unknown) => unknown) | undefined;
  /** Answers instead of the daemon. */
  answers: (request: string) => ProxyAnswer | undefined;
  /** Closes all connections, also those of open streams. */
  cut(): void;
  close(): Promise<void>;
}

export interface ProxyAnswer {
  status: number;
  lines: readonly unknown[];
  /** Pause before each line. */
  pauseMs?: number;
}

export async function startDockerProxy(daemonSocketPath = dockerSocketPath): Promise<DockerProxy> {
  const directory = await mkdtemp(path.join(tmpdir(), "berth-docker-proxy-"));
  const socketPath = path.join(directory, "docker.sock");
  const sockets = new Set<Socket>();
  const server = createServer((incoming, outgoing) => {
    const name = nameOf(incoming);
    proxy.requests.push(name);
    proxy.paths.push(incoming.url ?? "");
    if (proxy.hangs(name)) return;
    const answer = proxy.answers(name);
    if (answer) {
      outgoing.writeHead(answer.status, { "content-type": "application/json" });
      void writeLines(outgoing, answer);
      return;
    }
    const rewrite = proxy.rewrites(name);
    const { method, url, headers } = incoming;
    const forwarded = request(
      { socketPath: daemonSocketPath, method, path: url, headers, agent: false },
      (answered) => {
        if (!rewrite) {
          outgoing.writeHead(answered.statusCode ?? 502, answered.headers);
          outgoing.flushHeaders();
          answered.pipe(outgoing);
          answered.on("error", () => outgoing.destroy());
          return;
        }
        void readAll(answered).then((text) => {
          const { "content-length": _, ...rest } = answered.headers;
          outgoing.writeHead(answered.statusCode ?? 502, rest);
          outgoing.end(JSON.stringify(rewrite(JSON.parse(text))));
        });
      },
    );
    forwarded.on("error", () => outgoing.destroy());
    outgoing.on("close", () => forwarded.destroy());
    incoming.pipe(forwarded);
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
  });
  // Docker answers a start of an exec by another protocol on the same connection.
  server.on("upgrade", (incoming: IncomingMessage, socket: Socket, head: Buffer) => {
    const name = nameOf(incoming);
    proxy.requests.push(name);
    if (proxy.hangs(name)) return;
    const daemon = connect(daemonSocketPath);
    const headers = incoming.rawHeaders.flatMap((text, position) =>
      position % 2 === 0 ? [`${text}: ${incoming.rawHeaders[position + 1]}`] : [],
    );
    daemon.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n`);
    daemon.write(head);
    daemon.pipe(socket).pipe(daemon);
    daemon.on("error", () => socket.destroy());
    socket.on("close", () => daemon.destroy());
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const proxy: DockerProxy = {
    docker: new Docker({ socketPath }),
    socketPath,
    requests: [],
    paths: [],
    hangs: () => false,
    rewrites: () => undefined,
    answers: () => undefined,
    cut,
    close: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true, force: true });
    },
  };
  return proxy;
}

async function writeLines(outgoing: ServerResponse, { lines, pauseMs = 0 }: ProxyAnswer) {
  for (const line of lines) {
    if (pauseMs > 0) await delay(pauseMs);
    outgoing.write(`${JSON.stringify(line)}\n`);
  }
  outgoing.end();
}

function nameOf({ method, url = "" }: IncomingMessage): string {
  return `${method} ${decodeURIComponent(url.replace(/^\/v\d+\.\d+(?=\/)/, ""))}`;
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}
