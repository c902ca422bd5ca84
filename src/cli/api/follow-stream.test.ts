import { createServer, type Server } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { sampleEvent } from "../../../test/support/api/api-samples.ts";
import { berth } from "../../../test/support/cli/cli-harness.ts";

/** A real server, because what matters is how connections break. */
let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

type Script = (connection: number, lastEventId: string | undefined) => StreamPart[];
/** Text of the stream; "break" and "end" say what becomes of the connection then. */
type StreamPart = string;

async function serveStream(script: Script): Promise<{ apiUrl: string; lastEventIds: string[] }> {
  const lastEventIds: string[] = [];
  server = createServer((request, response) => {
    const lastEventId = request.headers["last-event-id"];
    const seen = typeof lastEventId === "string" ? lastEventId : undefined;
    lastEventIds.push(seen ?? "-");
    const parts = script(lastEventIds.length, seen);
    if (parts[0] === "break") {
      response.destroy();
      return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const texts = parts.filter((part) => part !== "break" && part !== "end");
    response.write(texts.join(""), () => {
      if (parts.includes("break")) response.destroy();
      else if (parts.includes("end")) response.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return { apiUrl: `http://127.0.0.1:${port}`, lastEventIds };
}

function message(number: number): string {
  const event = sampleEvent({ id: number, text: `event ${number}` });
  return `id: 900.${number}\ndata: ${JSON.stringify(event)}\n\n`;
}

/** Follows until `count` events were printed, then presses Ctrl-C. */
async function follow(apiUrl: string, count: number) {
  const interrupt = new AbortController();
  let lines = 0;
  return await berth(["events", "-f", "-o", "json"], {
    fetch: async (url, init) => await fetch(url, init),
    settings: { apiUrl },
    signal: interrupt.signal,
    onStdout: () => {
      lines++;
      if (lines === count) interrupt.abort();
    },
  });
}

const idsOf = (stdout: string): number[] =>
  stdout
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { id: number }).id);

test("a stream that breaks or ends goes on after the last event, with none missed and none twice", async () => {
  const { apiUrl, lastEventIds } = await serveStream((connection) => {
    if (connection === 1) return [message(1), message(2), "break"];
    if (connection === 2) return ["break"];
    if (connection === 3) return [": heartbeat\n\n", message(3), "end"];
    return [message(4)];
  });
  const run = await follow(apiUrl, 4);
  expect(idsOf(run.stdout)).toEqual([1, 2, 3, 4]);
  expect(lastEventIds).toEqual(["-", "900.2", "900.2", "900.3"]);
  expect(run.exitCode).toBe(130);
});

test("a stream that breaks before its first event goes on from where it began", async () => {
  const { apiUrl, lastEventIds } = await serveStream((connection) =>
    connection === 1 ? ["retry: 1000\nid: 900.0\n\n", "break"] : [message(1)],
  );
  expect(idsOf((await follow(apiUrl, 1)).stdout)).toEqual([1]);
  expect(lastEventIds).toEqual(["-", "900.0"]);
});

test("prints an event once if it arrives in several chunks", async () => {
  const whole = message(1);
  const { apiUrl } = await serveStream(() => [whole.slice(0, 30), whole.slice(30)]);
  expect(idsOf((await follow(apiUrl, 1)).stdout)).toEqual([1]);
});

test("ends at a permanent error, and prints it", async () => {
  server = createServer((_request, response) => {
    response.writeHead(401, { "Content-Type": "application/problem+json" });
    response.end(JSON.stringify({ status: 401, code: "unauthenticated", detail: "No token." }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const run = await follow(`http://127.0.0.1:${port}`, 1);
  expect(run.exitCode).toBe(1);
  expect(run.stderr).toContain("error: No token.");
});
