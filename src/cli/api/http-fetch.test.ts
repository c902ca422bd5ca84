import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { type FetchInit, httpFetch } from "./http-fetch.ts";

let server: Server | undefined;

async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener);
  const listening = server;
  await new Promise<void>((resolve) => listening.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

afterEach(() => {
  server?.close();
  server?.closeAllConnections();
});

function init(more: Partial<FetchInit> = {}): FetchInit {
  return { method: "GET", headers: {}, signal: new AbortController().signal, ...more };
}

test("sends the method, the headers and the body, and parses the answer", async () => {
  const url = await serve((request, response) => {
    const chunks: Uint8Array[] = [];
    request.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    request.on("end", () => {
      response.writeHead(201, { "Content-Type": "application/json" });
      response.end(
        JSON.stringify({
          method: request.method,
          token: request.headers.authorization,
          length: request.headers["content-length"],
          body: Buffer.concat(chunks).toString(),
        }),
      );
    });
  });
  const answer = await httpFetch(
    url,
    init({ method: "POST", headers: { Authorization: "Bearer t" }, body: "größe" }),
  );
  expect(answer).toMatchObject({ status: 201, ok: true });
  expect(answer.headers.get("Content-Type")).toBe("application/json");
  expect(await answer.json()).toEqual({
    method: "POST",
    token: "Bearer t",
    length: "7",
    body: "größe",
  });
});

test("yields a stream as it arrives, and ends it when the signal aborts", async () => {
  const url = await serve((_, response) => response.write("first"));
  const stop = new AbortController();
  const answer = await httpFetch(url, init({ signal: stop.signal }));
  const read = async (): Promise<void> => {
    for await (const chunk of answer.body ?? []) {
      expect(Buffer.from(chunk).toString()).toBe("first");
      stop.abort(new Error("stopped"));
    }
  };
  await expect(read()).rejects.toThrow("stopped");
});

test("rejects with the reason of the signal while the server does not answer", async () => {
  const url = await serve(() => undefined);
  const signal = AbortSignal.timeout(50);
  await expect(httpFetch(url, init({ signal }))).rejects.toMatchObject({ name: "TimeoutError" });
});

test("does not follow a redirect, which would send the token to another origin", async () => {
  let requests = 0;
  const url = await serve((_, response) => {
    requests += 1;
    response.writeHead(302, { Location: "/elsewhere" }).end();
  });
  expect(await httpFetch(url, init())).toMatchObject({ status: 302, ok: false });
  expect(requests).toBe(1);
});

test("reuses the connection after an answer without a body", async () => {
  const ports = new Set<number | undefined>();
  const url = await serve((request, response) => {
    ports.add(request.socket.remotePort);
    response.writeHead(204).end();
  });
  for (let count = 0; count < 3; count++) {
    const answer = await httpFetch(url, init({ method: "DELETE" }));
    expect(answer).toMatchObject({ status: 204, body: null });
    await new Promise((resolve) => setTimeout(resolve, 20)); // the agent frees the socket
  }
  expect(ports.size).toBe(1);
});

test("reports a refused connection with its code", async () => {
  const url = await serve(() => undefined);
  await new Promise((resolve) => server?.close(resolve));
  await expect(httpFetch(url, init())).rejects.toMatchObject({ code: "ECONNREFUSED" });
});
