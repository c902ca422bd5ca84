import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, expect, it } from "vitest";
import { probeByHttp } from "./http-probe.ts";

const { signal } = new AbortController();
const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** Probes a server that answers each request with these bytes. */
async function probe(answer: string | Buffer | ((socket: Socket) => void), timeoutSeconds = 60) {
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.once("data", () => {
      if (typeof answer === "function") answer(socket);
      else socket.write(answer);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return probeByHttp({ address: "127.0.0.1", port, path: "/" }, timeoutSeconds, signal);
}

it.each([
  [
    "a length beside chunks",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
  ],
  ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"],
  ["lines that end in LF only", "HTTP/1.1 204 No Content\nServer: old\n\n"],
  ["a header of 20 KiB", `HTTP/1.1 200 OK\r\nX-Long: ${"a".repeat(20_480)}\r\n\r\n`],
  ["a header name with a space", "HTTP/1.1 200 OK\r\nX Odd: 1\r\n\r\n"],
  ["HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nfine"],
  ["no reason phrase", "HTTP/1.1 200\r\n\r\n"],
  ["a redirect", "HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n"],
  [
    "early hints and an interim answer",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
  ],
])("an answer with %s is healthy", async (_name, answer) => {
  expect(await probe(answer)).toEqual({ healthy: true });
});

it("an answer that arrives byte by byte is healthy", async () => {
  const answer = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n";
  const result = await probe((socket) => {
    socket.setNoDelay(true);
    const send = (at: number) => {
      if (at < answer.length) socket.write(answer[at] ?? "", () => setImmediate(send, at + 1));
    };
    send(0);
  });
  expect(result).toEqual({ healthy: true });
});

it.each([
  ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "answered 503"],
  ["HTTP/1.1 404 Not Found\n\n", "answered 404"],
  ["HTTP/1.1 101 Switching Protocols\r\n\r\n", "answered 101"],
  ["SSH-2.0-OpenSSH_9.6\r\n", 'answered without an HTTP status: "SSH-2.0-OpenSSH_9.6"'],
  ["a".repeat(70_000), "answered without an HTTP status"],
  [Buffer.from([0x15, 3, 1, 0, 2, 2, 70]), "speaks TLS"],
  [
    "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n",
    "speaks TLS",
  ],
])("the detail of an unhealthy answer %j says %s", async (answer, detail) => {
  expect(await probe(answer)).toMatchObject({
    healthy: false,
    detail: expect.stringContaining(detail),
  });
});

it("a connection that closes without an answer is unhealthy", async () => {
  expect(await probe((socket) => socket.end())).toMatchObject({
    healthy: false,
    detail: expect.stringContaining("closed the connection without an answer"),
  });
});

it("interim answers without an end are unhealthy", async () => {
  const result = await probe((socket) => {
    const flood = () => {
      if (!socket.destroyed) socket.write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000), flood);
    };
    flood();
  });
  expect(result).toMatchObject({ healthy: false, detail: expect.stringContaining("bytes") });
});

it("a server that answers nothing is unhealthy after the timeout", async () => {
  expect(await probe(() => undefined, 1)).toEqual({
    healthy: false,
    detail: "no answer within 1 s",
  });
});
