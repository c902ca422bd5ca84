import { request as httpRequest } from "node:http";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { BerthEvent } from "../../../src/contracts/api/events.ts";
import type { Session } from "../../../src/contracts/api/sessions.ts";
import { SESSIONS_FEATURE } from "../../../src/contracts/agent-protocol/agent-features.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { encodeData, type SessionControl } from "../../../src/contracts/sessions/frames.ts";
import { silentLog } from "../../../src/lib/log.ts";
import { Shutdown } from "../../../src/lib/shutdown.ts";
import { serveHttp } from "../../../src/main/compose/serve-http.ts";
import { newId } from "../../../src/lib/ids.ts";
import { connectPeer, type SessionPeer } from "../../support/api/session-peers.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";
import { runningContainer } from "../../support/fleet/running-container.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** The tests are the caller and the agent. test/agent/sessions.test.ts has the real ones. */
let test: TestApi;
let apiUrl: string;
let shutdown: Shutdown;
let host: { hostId: string; credential: string };
let stranger: { hostId: string; credential: string };
let setId: string;
let tenant: string;

beforeAll(async () => {
  test = await createTestApi();
  shutdown = new Shutdown({ log: silentLog, deadlineMs: 10_000 });
  apiUrl = await serveHttp(
    { fetch: (request, env) => test.api.app.fetch(request, env), sessions: test.ctx.sessions },
    { host: "127.0.0.1", port: 0 },
    () => undefined,
    { shutdown } as never,
  );
  tenant = await test.tokenOf("tenant", "food");
  host = await enrollTestHost(test, "h1");
  stranger = await enrollTestHost(test, "h2");
  setId = await placeSet();
});
afterAll(async () => {
  await shutdown.run();
  await test.close();
});

/** Inserts a running set of the tenant on the host. */
async function placeSet(): Promise<string> {
  const { sql } = await import("drizzle-orm");
  await test.request("POST", "/v1/services", { token: tenant, body: serviceBody("web") });
  const capabilities = JSON.stringify({ features: [SESSIONS_FEATURE] });
  await test.ctx.db.execute(
    sql`update hosts set capabilities = ${capabilities}::jsonb where id = ${host.hostId}`,
  );
  const containers = JSON.stringify([runningContainer()]);
  const placed: unknown = await test.ctx.db.execute(
    sql`update sets set host_id = ${host.hostId}, state = 'running', containers = ${containers}::jsonb returning id`,
  );
  return String((placed as { id: string }[])[0]?.id);
}

const execUrl = (container = "app") => `${apiUrl}/v1/sets/${setId}/containers/${container}/exec`;
const open: SessionControl = {
  type: "open",
  command: ["sh", "-c", "secret"],
  stdin: true,
  tty: false,
};

/** Takes the request of the session as the agent, and connects with a credential. */
async function takeSession(credential = host.credential): Promise<SessionPeer> {
  const sessionId = await takeRequest();
  return connectPeer(`${apiUrl}/agent/v1/sessions/${sessionId}`, credential);
}

async function takeRequest(): Promise<string> {
  let sessionId = "";
  await waitUntil("the agent gets the request", async () => {
    const body = { ...emptySync, acceptedGeneration: 1_000, full: true };
    const response = await test.request("POST", "/agent/v1/sync", { token: host.credential, body });
    sessionId = ((await response.json()) as SyncResult).sessions?.[0]?.sessionId ?? "";
    return sessionId !== "";
  });
  return sessionId;
}

/** A session with its two ends. */
async function openSession(token = tenant): Promise<{ caller: SessionPeer; agent: SessionPeer }> {
  const [caller, agent] = await Promise.all([connectPeer(execUrl(), token), takeSession()]);
  return { caller, agent };
}

async function lastSession(): Promise<Session | undefined> {
  const response = await test.request("GET", "/v1/sessions?limit=1", { token: tenant });
  return ((await response.json()) as { items: Session[] }).items[0];
}

async function untilEnded(part: object): Promise<void> {
  await waitUntil("the session has ended", async () => (await lastSession())?.state === "ended");
  expect(await lastSession()).toMatchObject(part);
}

async function readTexts(): Promise<string[]> {
  const response = await test.request("GET", `/v1/events?set=${setId}`, { token: tenant });
  return ((await response.json()) as { items: BerthEvent[] }).items.map(({ text }) => text);
}

it("passes frames in both directions, and stores the begin and the end without arguments (I24)", async () => {
  const { caller, agent } = await openSession();
  caller.send(open);
  await waitUntil("the agent has the command", () => agent.controls.length === 1);
  expect(agent.controls).toEqual([open]);
  caller.socket.send(encodeData("stdin", Buffer.from("in")));
  agent.socket.send(encodeData("stdout", Buffer.from("out!")));
  await waitUntil(
    "the bytes arrive",
    () => agent.received.stdin + caller.received.stdout === "inout!",
  );
  agent.send({ type: "exit", code: 7 });
  agent.socket.close(1000);
  await caller.untilClosed();
  expect(caller.controls).toContainEqual({ type: "exit", code: 7 });
  await untilEnded({ exitCode: 7, bytesIn: 2, bytesOut: 4, byName: "tenant-token", reason: null });
  const texts = await readTexts();
  expect(texts).toContain("Session exec sh in container app by tenant-token.");
  expect(texts.join()).toMatch(/by tenant-token ended after \d+ s with code 7\./);
  expect(texts.join()).not.toContain("secret");
});

it.each([
  ["garbage", Uint8Array.of(200, 1, 2)],
  ["no frame at all", new Uint8Array()],
  ["input before the command", encodeData("stdin", Uint8Array.of(1))],
  ["the output of a program", encodeData("stdout", Uint8Array.of(1))],
])("ends the session of a caller that first sends %s", async (_title, message) => {
  const { caller, agent } = await openSession();
  caller.socket.send(message);
  await Promise.all([caller.untilClosed(), agent.untilClosed()]);
  expect(agent.controls).toEqual([]);
  await untilEnded({ exitCode: null, reason: { code: "session-malformed" } });
});

it("ends the session of a caller that sends a longer message than a frame", async () => {
  const { caller, agent } = await openSession();
  caller.send(open);
  caller.socket.send(new Uint8Array(40_000).fill(1));
  const codes = await Promise.all([caller.untilClosed(), agent.untilClosed()]);
  expect(codes).toHaveLength(2);
  await untilEnded({ exitCode: null });
});

it("ends a session when either end breaks its connection", async () => {
  const first = await openSession();
  first.caller.send(open);
  await waitUntil("it is open", () => first.agent.controls.length === 1);
  first.caller.socket.terminate();
  await first.agent.untilClosed();
  await untilEnded({ reason: { code: "session-caller-left", text: "The caller disconnected." } });
  const second = await openSession();
  second.caller.send(open);
  second.agent.socket.terminate();
  await second.caller.untilClosed();
  expect(second.caller.controls.at(-1)).toMatchObject({
    type: "error",
    code: "session-agent-left",
  });
  await untilEnded({ reason: { code: "session-agent-left" } });
});

it("ends a caller that answers no ping, and one whose token is revoked", async () => {
  const silent = await openSession();
  silent.caller.send(open);
  await waitUntil("it is open", () => silent.agent.controls.length === 1);
  silent.caller.socket.pause();
  test.ctx.sessions.live.checkAll();
  await waitUntil("the agent has answered", async () => {
    test.ctx.sessions.live.checkAll();
    return silent.agent.closeCode() !== undefined;
  });
  silent.caller.socket.terminate();
  const made = await test.request("POST", "/v1/tokens", {
    token: test.adminToken,
    body: { name: "brief", role: "tenant", tenant: "food" },
  });
  const { token, secret } = (await made.json()) as { token: { id: string }; secret: string };
  const revoked = await openSession(secret);
  revoked.caller.send(open);
  await test.request("DELETE", `/v1/tokens/${token.id}`, { token: test.adminToken });
  test.ctx.sessions.live.checkAll();
  await revoked.caller.untilClosed();
  expect(revoked.caller.controls.at(-1)).toMatchObject({ code: "session-forbidden" });
});

it("refuses infra with an event (I10), unknown containers, readers and other tenants", async () => {
  const refusal = async (url: string, token: string) =>
    connectPeer(url, token).then(
      () => 101,
      (error: { status: number; body: string }) => [error.status, JSON.parse(error.body).code],
    );
  const missingUrl = execUrl().replace(setId, newId("set"));
  expect(await refusal(execUrl("infra"), tenant)).toEqual([403, "forbidden"]);
  expect((await readTexts()).join()).toContain("refused: Berth permits no session in an infra");
  expect(await refusal(execUrl("other"), tenant)).toEqual([404, "not-found"]);
  expect(await refusal(execUrl(), await test.tokenOf("read", "food"))).toEqual([403, "forbidden"]);
  const foreigner = await test.tokenOf("tenant", "toys");
  for (const url of [execUrl(), missingUrl])
    expect(await refusal(url, foreigner)).toEqual([404, "not-found"]);
  expect(await refusal(execUrl(), "brt_unknown")).toEqual([401, "unauthenticated"]);
});

it("gives a session to no other host, and to no process without its secret", async () => {
  const caller = connectPeer(execUrl(), tenant);
  const sessionId = await takeRequest();
  const url = `${apiUrl}/agent/v1/sessions/${sessionId}`;
  await expect(connectPeer(url, stranger.credential)).rejects.toMatchObject({ status: 404 });
  const forged = { "berth-session-secret": "guess", "berth-session-host": host.hostId };
  const internal = `${apiUrl}/internal/v1/sessions/${sessionId}`;
  await expect(connectPeer(internal, "x", forged)).rejects.toMatchObject({ status: 404 });
  const agent = await connectPeer(url, host.credential);
  (await caller).socket.close();
  await agent.untilClosed();
});

it("bounds the sessions of a tenant on a host, and frees the places at their end", async () => {
  const opened: SessionPeer[] = [];
  for (let count = 0; count < 8; count++) opened.push((await openSession()).caller);
  const { length } = opened;
  await expect(connectPeer(execUrl(), tenant)).rejects.toMatchObject({ status: 429 });
  for (const caller of opened) caller.socket.close();
  await waitUntil("all have ended", () => test.ctx.sessions.live.size === 0);
  const { caller } = await openSession();
  caller.socket.close();
  expect(length).toBe(8);
});

it("frees its place when a caller disconnects before the agent comes", async () => {
  for (let count = 0; count < 10; count++) {
    const request = httpRequest(execUrl(), {
      headers: {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        authorization: `Bearer ${tenant}`,
      },
    });
    request.on("error", () => undefined);
    request.end();
    await takeRequest();
    request.destroy();
  }
  await untilEnded({ reason: { code: "session-not-connected" } });
  const { caller } = await openSession();
  expect(caller.closeCode()).toBeUndefined();
  caller.socket.close();
});

it("serves requests that offer HTTP/2, with their bodies, as if they did not", async () => {
  const body = JSON.stringify({ name: "java", role: "read" });
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const request = httpRequest(
      `${apiUrl}/v1/tokens`,
      {
        method: "POST",
        headers: {
          connection: "Upgrade, HTTP2-Settings",
          upgrade: "h2c",
          "http2-settings": "AAMAAABkAARAAAAAAAIAAAAA",
          authorization: `Bearer ${test.adminToken}`,
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
        },
      },
      (response) => {
        response.resume();
        resolve(response.statusCode);
      },
    );
    request.on("error", reject);
    request.end(body);
  });
  expect(status).toBe(201);
});
