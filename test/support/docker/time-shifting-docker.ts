import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, request, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Docker from "dockerode";
import { dockerSocketPath } from "./docker.ts";

const inspectPattern = /^(\/v[0-9.]+)?\/containers\/[^/]+\/json/;

export interface TimeShiftingDocker {
  docker: Docker;
  /**
   * Shows every time before now as if the wall clock had been stepped by `-byMs` now. So a step
   * back by ten minutes shows earlier times ten minutes in the future.
   */
  shiftPast(byMs: number): void;
  close(): Promise<void>;
}

/**
 * Docker behind a proxy that shifts the times in its answers to inspect. A test cannot step the
 * clock of its machine.
 */
export async function startTimeShiftingDocker(): Promise<TimeShiftingDocker> {
  const folder = await mkdtemp(join(tmpdir(), "berth-shift-"));
  const socketPath = join(folder, "docker.sock");
  const sockets = new Set<Socket>();
  let shift = { beforeMs: 0, byMs: 0 };
  const shiftTime = (time: string): string => {
    const atMs = Date.parse(time);
    const isShifted = atMs > 0 && atMs < shift.beforeMs; // Docker's zero time is before 1970
    return isShifted ? new Date(atMs + shift.byMs).toISOString() : time;
  };
  const shiftInspect = (text: string): string => {
    const info = JSON.parse(text) as Partial<Docker.ContainerInspectInfo>;
    if (!info.State || info.Created === undefined) return text; // an error
    const { StartedAt, FinishedAt } = info.State;
    const state = {
      ...info.State,
      StartedAt: shiftTime(StartedAt),
      FinishedAt: shiftTime(FinishedAt),
    };
    return JSON.stringify({ ...info, Created: shiftTime(info.Created), State: state });
  };
  const server: Server = createServer((incoming, outgoing) => {
    const { method, url: path, headers } = incoming;
    const upstream = request({ socketPath: dockerSocketPath, method, path, headers }, (answer) => {
      if (method !== "GET" || !inspectPattern.test(path ?? "")) {
        outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
        outgoing.flushHeaders();
        answer.pipe(outgoing);
        return;
      }
      void readText(answer).then((text) => {
        const {
          "content-length": _length,
          "transfer-encoding": _encoding,
          ...others
        } = answer.headers;
        outgoing.writeHead(answer.statusCode ?? 500, others).end(shiftInspect(text));
      });
    });
    upstream.on("error", () => outgoing.destroy());
    outgoing.on("close", () => upstream.destroy());
    incoming.pipe(upstream);
  });
  server.on("upgrade", (incoming: IncomingMessage, client: Socket, head: Buffer) => {
    const upstream = connect(dockerSocketPath);
    const headers = incoming.rawHeaders.flatMap((name, position, all) =>
      position % 2 === 0 ? `${name}: ${all[position + 1]}\r\n` : [],
    );
    upstream.write(`${incoming.method} ${incoming.url} HTTP/1.1\r\n${headers.join("")}\r\n`);
    upstream.write(head);
    upstream.pipe(client).pipe(upstream);
    for (const socket of [client, upstream]) socket.on("error", () => socket.destroy());
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  server.listen(socketPath);
  await once(server, "listening");
  return {
    docker: new Docker({ socketPath }),
    shiftPast: (byMs) => {
      shift = { beforeMs: Date.now(), byMs };
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function readText(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
