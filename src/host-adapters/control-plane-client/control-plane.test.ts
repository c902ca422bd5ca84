import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Agent as HttpAgent } from "undici";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { hostNetworksQuery } from "../../contracts/agent-protocol/host-networks.ts";
import type { SyncResult } from "../../contracts/agent-protocol/sync.ts";
import { proveRefusal } from "../../contracts/agent-protocol/refusal-proof.ts";
import { localSet } from "../../../test/support/agent/local-set.ts";
import {
  AGENT_IDENTITY_HEADER,
  parseAgentIdentity,
} from "../../contracts/agent-protocol/agent-identity.ts";
import {
  PREVIOUS_HOSTS_MAX,
  PURGES_PER_SYNC_MAX,
  SETS_PER_HOST_MAX,
} from "../../contracts/agent-protocol/protocol.ts";
import { newId } from "../../lib/ids.ts";
import {
  type ControlPlane,
  ControlPlaneError,
  RefusedError,
} from "../../agent/ports/control-plane.ts";
import { createEmptySync } from "../../agent/reporting/send-sync.ts";
import { silentLog } from "../../lib/log.ts";
import { createControlPlane, createHostNetworks, enrollHost } from "./control-plane.ts";
import { createMemoryCredentials, HostCredentials } from "./host-credentials.ts";

const body = createEmptySync("test", 3);
const answer: SyncResult = {
  hostGeneration: 4,
  full: false,
  sets: [],
  streams: [],
  purgeVolumes: [],
  reportAgain: [],
  leaseSeconds: 45,
  serverTime: "2026-01-01T00:00:00Z",
};

describe("the control plane over HTTP", () => {
  let server: Server;
  let dispatcher: HttpAgent;
  let apiUrl: string;
  let respond: (request: IncomingMessage, response: ServerResponse) => void;
  const { signal } = new AbortController();

  beforeEach(async () => {
    server = createServer((request, response) => respond(request, response));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    apiUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    dispatcher = new HttpAgent();
  });
  afterEach(async () => {
    await dispatcher.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const ownCredentials = () => createMemoryCredentials("brt_own", { signal, log: silentLog });
  const plane = () => createControlPlane({ apiUrl, credentials: ownCredentials(), dispatcher });
  const failureOf = (api: ControlPlane) => api.sync(body, signal).catch((error: unknown) => error);
  const sendJson = (response: ServerResponse, status: number, value: unknown, headers = {}) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };
  const readAll = async (request: IncomingMessage) => {
    let text = "";
    for await (const chunk of request) text += String(chunk);
    return text;
  };

  it("names at most 64 versions of networks, and passes changes on that it does not know", async () => {
    const queries: unknown[] = [];
    respond = (request, response) => {
      const { searchParams } = new URL(request.url ?? "", apiUrl);
      queries.push(hostNetworksQuery.parse(Object.fromEntries(searchParams)).networkVersions);
      const version = "0".repeat(32);
      sendJson(response, 200, { version, networks: [], changes: [{ later: true }], later: true });
    };
    const networks = createHostNetworks({ apiUrl, credentials: ownCredentials(), dispatcher });
    const versions = Array.from({ length: 70 }, (_, number) => String(number).padStart(32, "0"));
    for (const networkVersions of [versions, [], undefined]) {
      const query = { version: undefined, networkVersions, waitMs: 0, knowsGateways: false };
      const read = await networks.read(query, signal);
      expect(read.changes).toEqual([{ later: true }]);
    }
    expect(queries).toEqual([versions.slice(0, 64), [], undefined]);
  });

  it("sends a sync with the credential, and returns the answer", async () => {
    const seen: unknown[] = [];
    respond = (request, response) => {
      seen.push(request.method, request.url, request.headers.authorization);
      void readAll(request).then((text) => {
        seen.push(JSON.parse(text));
        sendJson(response, 200, answer);
      });
    };
    expect(await plane().sync(body, signal)).toMatchObject(answer);
    expect(seen).toEqual(["POST", "/agent/v1/sync", "Bearer brt_own", body]);
  });

  it("reads sets one by one, and ignores requests for logs that it cannot read", async () => {
    const set = { ...localSet(), desired: "deleted" };
    const newer = { ...localSet(), desired: "running", holograms: true };
    const stream = {
      streamId: newId("str"),
      setId: set.setId,
      container: "app",
      follow: true,
      tail: 1,
    };
    const streams = [{ ...stream, since: "yesterday" }, { streamId: "of a newer kind" }];
    respond = (_request, response) =>
      sendJson(response, 200, { ...answer, sets: [newer, set, { setId: "x" }], streams });
    const read = await plane().sync(body, signal);
    expect(read.sets).toEqual([set]);
    expect(read.unsupported).toMatchObject([
      { setId: newer.setId, desired: "running", detail: 'Unrecognized key: "holograms"' },
    ]);
    expect(read.unreadable).toBe(1);
    expect(read.streams).toEqual([stream]);
  });

  it("ignores images and sessions that only a newer agent can read", async () => {
    const image = { reference: "menu:43", tenant: "food", purpose: "pull" };
    const session = {
      sessionId: newId("ses"),
      setId: newId("set"),
      container: "app",
      kind: "exec",
    };
    const prefetch = [
      { ...image, priority: 1 },
      { ...image, purpose: "unpack" },
    ];
    const sessions = [
      { ...session, isTraced: true },
      { ...session, kind: "debug" },
    ];
    respond = (_request, response) => sendJson(response, 200, { ...answer, prefetch, sessions });
    const read = await plane().sync(body, signal);
    expect(read).toMatchObject({ prefetch: [image], sessions: [session] });
    respond = (_request, response) => sendJson(response, 200, answer);
    expect(Object.keys(await plane().sync(body, signal))).not.toContain("prefetch");
  });

  it("requests members for gateways if the network driver knows them, and ignores members of a newer API", async () => {
    const urls: (string | undefined)[] = [];
    const remote = {
      mac: "0a:00:0a:40:00:09",
      addresses: ["10.64.0.9"],
      tunnelAddress: "192.0.2.7",
    };
    const network = {
      networkId: newId("net"),
      tenantId: newId("tnt"),
      name: "web",
      vni: 4097,
      rules: [],
      endConnectionsCount: 0,
      gateways: [],
      services: [],
    };
    const newer = { ...network, later: 1, remotePorts: [{ ...remote, later: 2 }] };
    const version = "0".repeat(32);
    respond = (request, response) => {
      urls.push(request.url);
      sendJson(response, 200, { version, networks: [newer], later: 3 });
    };
    const networks = createHostNetworks({ apiUrl, credentials: ownCredentials(), dispatcher });
    const query = { version: undefined, networkVersions: undefined, waitMs: 0 };
    const read = await networks.read({ ...query, knowsGateways: true }, signal);
    expect(read).toEqual({ version, networks: [{ ...network, remotePorts: [remote] }] });
    await networks.read({ ...query, knowsGateways: false }, signal);
    expect(urls.map((url) => url?.includes("knowsGateways=true"))).toEqual([true, false]);
  });

  it("names its process in a header, and rejects the answer to a process that is not admitted", async () => {
    const identity = { machineId: "a1", bootId: "b2", processId: "c3", startedMs: 4 };
    const api = createControlPlane({ apiUrl, credentials: ownCredentials(), dispatcher, identity });
    const seen: unknown[] = [];
    let admission = "accepted";
    respond = (request, response) => {
      const header = request.headers[AGENT_IDENTITY_HEADER];
      seen.push(parseAgentIdentity(String(header)));
      sendJson(response, 200, { ...answer, admission });
    };
    await api.sync(body, signal);
    await api.sync(body, signal, { isEnding: true });
    expect(seen).toEqual([
      { ...identity, isEnding: false },
      { ...identity, isEnding: true },
    ]);
    admission = "newer-process";
    expect(await failureOf(api)).toMatchObject({ name: "NotAdmittedError", admission });
  });

  it("takes a newer API's word for a refusal of its process as a refusal", async () => {
    const admission = "of-a-newer-kind";
    respond = (_request, response) => sendJson(response, 200, { ...answer, admission });
    expect(await failureOf(plane())).toMatchObject({ name: "NotAdmittedError", admission });
  });

  it("reads the start of lists that a newer API may lengthen", async () => {
    const ids = (prefix: string, count: number) =>
      Array.from({ length: count }, () => newId(prefix as "set"));
    const lists = {
      previousHosts: ids("host", PREVIOUS_HOSTS_MAX + 1),
      setsToRemove: ids("set", SETS_PER_HOST_MAX + 1),
      reportAgain: ids("set", SETS_PER_HOST_MAX + 1),
      purgeVolumes: ids("vol", PURGES_PER_SYNC_MAX + 1),
    };
    respond = (_request, response) => sendJson(response, 200, { ...answer, ...lists });
    const read = await plane().sync(body, signal);
    expect(read.previousHosts).toEqual(lists.previousHosts.slice(0, -1));
    expect(read.setsToRemove).toEqual(lists.setsToRemove.slice(0, -1));
    expect(read.reportAgain).toEqual(lists.reportAgain.slice(0, -1));
    expect(read.purgeVolumes).toEqual(lists.purgeVolumes.slice(0, -1));
  });

  it("reads credentials of registries one by one", async () => {
    const read = { tenant: "food", registry: "ghcr.io", username: "puller", password: "x" };
    const list = [{ ...read, expiresAt: "tomorrow" }, { registry: "of a newer kind" }, null];
    respond = (_request, response) =>
      sendJson(response, 200, { ...answer, registryCredentials: list });
    expect((await plane().sync(body, signal)).registryCredentials).toEqual([read]);
    respond = (_request, response) => sendJson(response, 200, answer);
    expect((await plane().sync(body, signal)).registryCredentials).toBeUndefined();
  });

  it("ignores unknown fields of an answer", async () => {
    respond = (_request, response) => sendJson(response, 200, { ...answer, weather: "fair" });
    expect(await plane().sync(body, signal)).toMatchObject(answer);
  });

  it("distinguishes a refusal from every other failure", async () => {
    for (const status of [401, 403, 410]) {
      respond = (_request, response) => sendJson(response, status, { detail: "Unknown." });
      const error = await failureOf(plane());
      expect(error).toBeInstanceOf(RefusedError);
      expect(error).toMatchObject({ status, provenCode: undefined });
    }
    for (const status of [400, 404, 429, 500, 503]) {
      respond = (_request, response) =>
        sendJson(response, status, { detail: "No." }, { "retry-after": "7" });
      const error = await failureOf(plane());
      expect(error).not.toBeInstanceOf(RefusedError);
      expect(error).toMatchObject({ status, retryAfterMs: 7_000 });
    }
  });

  it("believes a refusal only if it is signed for this request, status and code", async () => {
    const nonces = new Set<unknown>();
    const answer = (signed: { code?: string; status?: number; nonce?: string; key?: string }) => {
      respond = (request, response) => {
        const nonce = String(request.headers["berth-nonce"]);
        nonces.add(nonce);
        const refusal = { status: 410, code: "host-deleted", nonce, ...signed };
        const proof = proveRefusal(signed.key ?? "brt_own", refusal);
        const headers = proof === undefined ? {} : { "berth-proof": proof };
        sendJson(response, 410, { code: "host-deleted" }, headers);
      };
      return failureOf(plane());
    };
    expect(await answer({})).toMatchObject({ provenCode: "host-deleted" });
    for (const forged of [
      { code: "unauthenticated" },
      { status: 401 },
      { nonce: "a-nonce-of-another-request" },
      { nonce: "" },
      { key: "brt_other" },
    ]) {
      expect(await answer(forged)).toMatchObject({ status: 410, provenCode: undefined });
    }
    expect(nonces.size).toBe(6);
  });

  it.each([
    ["no JSON", "<html>"],
    ["another shape", JSON.stringify({ ...answer, sets: { setId: "x" } })],
    ["nothing", ""],
  ])("rejects an answer with %s", async (_what, text) => {
    respond = (_request, response) => response.end(text);
    await expect(plane().sync(body, signal)).rejects.toBeInstanceOf(ControlPlaneError);
  });

  it.each([
    [
      "tries previous credentials if Berth refuses the current one",
      true,
      "a",
      "a",
      ["c", "b", "a"],
    ],
    ["tries no other credential after a refusal of a proxy", false, "a", "c", ["c"]],
    ["retains its credential if Berth refuses all", true, "none", "c", ["c", "b", "a"]],
  ])("%s", async (_title, isSigned, known, current, tried) => {
    const stored = { credential: "c", previousCredentials: ["b", "a"] };
    const store = { saveCredentials: () => Promise.resolve() };
    const credentials = new HostCredentials({ stored, store, signal, log: silentLog });
    const bearers: string[] = [];
    respond = (request, response) => {
      const bearer = String(request.headers.authorization).slice("Bearer ".length);
      bearers.push(bearer);
      if (bearer === known) return sendJson(response, 200, answer);
      const nonce = String(request.headers["berth-nonce"]);
      const refusal = { status: 401, code: "unauthenticated", nonce };
      const proof = isSigned ? proveRefusal(bearer, refusal) : undefined;
      sendJson(response, 401, refusal, proof === undefined ? {} : { "berth-proof": proof });
    };
    const api = createControlPlane({ apiUrl, credentials, dispatcher });
    const error = await failureOf(api);
    expect(error instanceof RefusedError).toBe(current !== known);
    expect([credentials.current, bearers]).toEqual([current, tried]);
  });

  it("repeats a request that was refused because the credential was replaced meanwhile", async () => {
    const credentials = ownCredentials();
    const rotate = async () => {
      credentials.startRotation("brt_own", () => Promise.resolve());
      await credentials.settled();
    };
    const bearers: string[] = [];
    respond = async (request, response) => {
      const bearer = String(request.headers.authorization).slice("Bearer ".length);
      bearers.push(bearer);
      if (bearer !== "brt_own") return sendJson(response, 200, answer);
      await rotate();
      const refusal = {
        status: 401,
        code: "unauthenticated",
        nonce: String(request.headers["berth-nonce"]),
      };
      const headers = { "berth-proof": proveRefusal(bearer, refusal) };
      sendJson(response, 401, refusal, headers);
    };
    await createControlPlane({ apiUrl, credentials, dispatcher }).sync(body, signal);
    expect(bearers).toEqual(["brt_own", credentials.current]);
  });

  it("rejects if the API is unreachable or the connection fails", async () => {
    respond = (request) => request.socket.destroy();
    await expect(plane().sync(body, signal)).rejects.toBeInstanceOf(ControlPlaneError);
    const unreachable = createControlPlane({
      apiUrl: "http://127.0.0.1:1",
      credentials: ownCredentials(),
      dispatcher,
    });
    await expect(unreachable.sync(body, signal)).rejects.toThrow("cannot be reached");
  });

  it("rejects an aborted long poll with the reason", async () => {
    respond = () => undefined;
    const abort = new AbortController();
    const sync = plane().sync({ ...body, waitMs: 20_000 }, abort.signal);
    await pause(20);
    abort.abort(new Error("the agent stops"));
    await expect(sync).rejects.toThrow("the agent stops");
  });

  it("enrolls with the token", async () => {
    const enrolled = { hostId: newId("host"), credential: "brt_new" };
    let token: string | undefined;
    respond = (request, response) => {
      token = request.headers.authorization;
      sendJson(response, 201, enrolled);
    };
    const none = { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 };
    const enroll = {
      protocol: 1 as const,
      name: "one",
      zone: "z",
      rack: "r",
      labels: {},
      allocatable: none,
      agentVersion: "test",
    };
    const target = { apiUrl, enrollToken: "brt_once", dispatcher };
    expect(await enrollHost(target, enroll, signal)).toEqual(enrolled);
    expect(token).toBe("Bearer brt_once");
  });

  it("uploads a log in chunks, or the reason why it cannot be opened", async () => {
    const received: string[] = [];
    respond = (request, response) => {
      void readAll(request).then((text) => {
        received.push(`${request.url} ${text}`);
        response.writeHead(204).end();
      });
    };
    async function* chunks() {
      yield Buffer.from("one ");
      await pause(10);
      yield Buffer.from("two");
    }
    await plane().uploadStream("str_1", { chunks: chunks() }, signal);
    async function* nothing(): AsyncGenerator<Uint8Array> {
      // the container has no log
    }
    await plane().uploadStream("str_2", { chunks: nothing(), error: "not there" }, signal);
    expect(received).toEqual([
      "/agent/v1/streams/str_1 one two",
      "/agent/v1/streams/str_2?error=not%20there ",
    ]);
  });

  it("stops a log when its reader disconnects", async () => {
    let hasEnded = false;
    let chunkCount = 0;
    async function* endless() {
      try {
        for (;;) {
          chunkCount++;
          yield Buffer.alloc(1_000, "x");
          await pause(1);
        }
      } finally {
        hasEnded = true;
      }
    }
    respond = (request, response) => {
      request.once("data", () => sendJson(response, 404, { title: "No reader." }));
      request.resume();
    };
    await plane().uploadStream("str_3", { chunks: endless() }, signal);
    const countAtEnd = chunkCount;
    await pause(50);
    expect(hasEnded).toBe(true);
    expect(chunkCount).toBeLessThan(countAtEnd + 5);
  });

  it("reads a log no faster than its reader", async () => {
    let sentBytes = 0;
    async function* endless() {
      for (;;) {
        sentBytes += 64 * 1_024;
        yield Buffer.alloc(64 * 1_024, "x");
      }
    }
    respond = () => undefined; // reads nothing from the socket
    const abort = new AbortController();
    const upload = plane().uploadStream("str_4", { chunks: endless() }, abort.signal);
    const failed = expect(upload).rejects.toThrow();
    await pause(300);
    const buffered = sentBytes;
    await pause(200);
    expect(sentBytes).toBe(buffered);
    expect(buffered).toBeLessThan(16 * 2 ** 20);
    abort.abort(new Error("enough"));
    await failed;
  });
});
