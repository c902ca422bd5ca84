import { setTimeout as delay } from "node:timers/promises";
import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { DesiredSet } from "../../../src/contracts/agent-protocol/desired-set.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import type { EndpointList } from "../../../src/contracts/api/endpoints.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { createMover } from "../../../src/control/operations/move-sets.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { EndpointFeeds } from "../../../src/control/services/endpoint-feeds.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { findEndpoints } from "../../../src/db/queries/services/endpoints.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import { streamEndpoints } from "../../../src/routes/services/stream-endpoints.ts";
import { EndpointReader } from "../../support/api/endpoint-reader.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";
import { observed } from "../../support/fleet/fleet-context.ts";
import { waitUntil } from "../../support/wait-until.ts";

const path = "/v1/services/web/endpoints";
/** Below the time after which a feed reads without a signal. */
const WELL_BELOW_POLL_MS = 3_000;

let test: TestApi;
let acme: string;
let host: { hostId: string; credential: string };
let readers: EndpointReader[];

beforeEach(async () => {
  readers = [];
  test = await createTestApi();
  acme = await test.tokenOf("tenant", "acme");
  host = await enrollTestHost(test, "h1");
  await sync({ usage });
  await test.request("POST", "/v1/services", { token: acme, body: serviceBody("web") });
  await createPlacer(test.ctx).placeSets();
  await report(true);
});
afterEach(async () => {
  await Promise.all(readers.map((reader) => reader.close()));
  await test.close();
});

const usage = {
  used: { cpuMillis: 100, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 2 ** 33, volumeBytes: 0, rootfsBytes: 2 ** 36 },
};

async function sync(parts: object, { credential } = host): Promise<SyncResult> {
  const body = { ...emptySync, ...parts };
  const response = await test.request("POST", "/agent/v1/sync", { token: credential, body });
  return (await response.json()) as SyncResult;
}

/** The agent of the host reports whether its running sets are ready, and obeys all orders. */
async function report(ready: boolean, agent = host): Promise<void> {
  const stateOf = { running: "running", stopped: "stopped", deleted: "absent" } as const;
  const { sets } = await sync({}, agent);
  const toReport = (set: DesiredSet) => observed(set, stateOf[set.desired], { ready });
  await sync({ observed: sets.map(toReport) }, agent);
}

async function open(token = acme): Promise<EndpointReader> {
  const abort = new AbortController();
  const headers = { accept: "text/event-stream" };
  const response = await test.request("GET", path, { token, headers, signal: abort.signal });
  expect(response.status).toBe(200);
  return follow(response.body, abort);
}

function follow(stream: ReadableStream | null, abort: AbortController): EndpointReader {
  assert(stream, "a stream has a body");
  const reader = new EndpointReader(stream, abort);
  readers.push(reader);
  return reader;
}

async function tenantId(name: string): Promise<string> {
  const id = await test.api.findTenantId(name);
  assert(id, "the tenant exists");
  return id;
}

async function listOnce(): Promise<EndpointList> {
  return (await (await test.request("GET", path, { token: acme })).json()) as EndpointList;
}

async function anySet(): Promise<string> {
  const [first] = (await listOnce()).endpoints;
  assert(first, "the service has an endpoint");
  return first.setId;
}

it("answers 304 to a caller that has the version of the list", async () => {
  const response = await test.request("GET", path, { token: acme });
  const { version } = (await response.json()) as EndpointList;
  const etag = response.headers.get("etag");
  expect(etag).toBe(`"${version}"`);
  for (const tags of [`"${version}"`, `"other", W/"${version}"`]) {
    const headers = { "if-none-match": tags };
    const unchanged = await test.request("GET", path, { token: acme, headers });
    expect(unchanged.status).toBe(304);
    expect(unchanged.headers.get("etag")).toBe(etag);
    expect(await unchanged.text()).toBe("");
  }
  const headers = { "if-none-match": '"other"' };
  expect((await test.request("GET", path, { token: acme, headers })).status).toBe(200);
});

it("lists and streams the endpoints of the caller's tenant only", async () => {
  const globex = await test.tokenOf("tenant", "globex");
  for (const accept of ["application/json", "text/event-stream"]) {
    const headers = { accept };
    expect((await test.request("GET", path, { token: globex, headers })).status).toBe(404);
  }
  // A feed of the same name belongs to its tenant.
  const mine = await open();
  await test.request("POST", "/v1/services", { token: globex, body: serviceBody("web") });
  const theirs = await open(globex);
  expect(await theirs.next()).toMatchObject({ list: { total: 0 } });
  expect(await mine.next()).toMatchObject({ list: { total: 2 } });
  const read = await test.tokenOf("read", "acme");
  expect((await test.request("GET", path, { token: read })).status).toBe(200);
});

it("streams the whole list, then each change in order, and again the newest list after a reconnect", async () => {
  const reader = await open();
  const first = await reader.next();
  const both = await listOnce();
  expect(first).toEqual({ event: "endpoints", id: both.version, list: both });
  await report(false);
  const second = await reader.next();
  expect(second.list).toMatchObject({ total: 0, endpoints: [] });
  expect(second.id).toBe(second.list.version);
  await report(true);
  expect((await reader.next()).list).toEqual(both);
  await reader.close();
  await report(false);
  expect(await (await open()).next()).toEqual(second);
});

it("each kind of change reaches a follower by its signal", async () => {
  const other = await enrollTestHost(test, "h2");
  const reader = await open();
  expect((await reader.next()).list.total).toBe(2);
  const expectTotal = async (change: string, total: number): Promise<void> => {
    const { list } = await reader.next(WELL_BELOW_POLL_MS);
    expect([change, list.total]).toEqual([change, total]);
  };
  const setId = await anySet();
  await test.request("POST", `/v1/sets/${setId}/stop`, { token: acme });
  await expectTotal("stop", 1);
  await test.request("POST", `/v1/sets/${setId}/start`, { token: acme });
  await expectTotal("start before the host has stopped it", 2);
  await test.request("DELETE", `/v1/sets/${setId}`, { token: acme });
  await expectTotal("deletion", 1);
  await createPlacer(test.ctx).placeSets();
  await report(true);
  await expectTotal("the replacement of the deleted set", 2);
  await test.request("POST", `/v1/services/web/scale`, { token: acme, body: { replicas: 1 } });
  await expectTotal("scale-in", 1);
  await report(true);

  await sync({ usage }, other);
  await test.request("POST", `/v1/hosts/${host.hostId}/drain`, { token: test.adminToken });
  const mover = createMover(test.ctx);
  await mover.moveSets();
  await createPlacer(test.ctx).placeSets();
  await report(true, other);
  const moved = await reader.next(WELL_BELOW_POLL_MS);
  expect(moved.list.endpoints).toMatchObject([{ host: { name: "h2" } }]);
  await mover.moveSets(); // removes the replaced set

  await sync({ docker: { state: "unreachable", detail: "no answer" } }, other);
  await expectTotal("unhealthy host", 0);
  await sync({}, other);
  await report(true, other);
  await expectTotal("host with Docker again", 1);
  await test.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 s' where id = ${other.hostId}`,
  );
  await replaceSetsOfLostHosts(test.ctx);
  await expectTotal("silent host", 0);
});

it("ends the streams of a deleted service after an empty list, and a reconnect gets 404", async () => {
  const reader = await open();
  expect((await reader.next()).list.total).toBe(2);
  await test.request("DELETE", "/v1/services/web", { token: acme });
  expect((await reader.next(WELL_BELOW_POLL_MS)).list.total).toBe(0);
  await report(true);
  await closeServices(test.ctx);
  expect(await reader.isOver()).toBe(true);
  const headers = { accept: "text/event-stream" };
  expect((await test.request("GET", path, { token: acme, headers })).status).toBe(404);
});

it("ends a stream whose service was created again, because it is another service", async () => {
  const reader = await open();
  expect((await reader.next()).list.total).toBe(2);
  await test.ctx.db.execute(sql`with old as (
      update services set deleted_at = now() where name = 'web' returning *)
    insert into services select (jsonb_populate_record(null::services,
      to_jsonb(old) || '{"id": "svc_again", "deleted_at": null}')).* from old`);
  await report(false);
  expect((await reader.next()).list.total).toBe(0);
  expect(await reader.isOver()).toBe(true);
});

it("shares the reads of a service between all its streams, and reads no more without one", async () => {
  let reads = 0;
  const feeds = new EndpointFeeds(test.ctx, (...args) => {
    reads++;
    return findEndpoints(...args);
  });
  const tenant = await tenantId("acme");
  const followers = await Promise.all(
    Array.from({ length: 100 }, async () => {
      const abort = new AbortController();
      return follow(await streamEndpoints(feeds, tenant, "web", abort.signal), abort);
    }),
  );
  const expectEach = async (total: number): Promise<void> => {
    const messages = await Promise.all(followers.map((follower) => follower.next()));
    expect(new Set(messages.map(({ list }) => list.total))).toEqual(new Set([total]));
  };
  await expectEach(2);
  for (const total of [0, 2, 0]) {
    await report(total > 0);
    await expectEach(total);
  }
  // Each report sends two signals at most. The feed reads once before its loop.
  expect(reads).toBeLessThanOrEqual(2 + 2 * 3);
  await Promise.all(followers.map((follower) => follower.close()));
  await delay(100);
  const readsBefore = reads;
  await report(true);
  await delay(200);
  expect(reads).toBe(readsBefore);
});

it("makes one change of the list from changes within 50 ms", async () => {
  let reads = 0;
  const feeds = new EndpointFeeds(test.ctx, (...args) => {
    reads++;
    return findEndpoints(...args);
  });
  const abort = new AbortController();
  const tenant = await tenantId("acme");
  const reader = follow(await streamEndpoints(feeds, tenant, "web", abort.signal), abort);
  await reader.next();
  const [service] = await queryRows<{ id: string }>(
    test.ctx.db,
    sql`select id from services where name = 'web'`,
  );
  const startedAtMs = performance.now();
  const readsBefore = reads;
  while (performance.now() - startedAtMs < 1_000) {
    await test.ctx.signals.publish([`service:${service?.id ?? ""}`]);
    await delay(1);
  }
  const elapsedMs = performance.now() - startedAtMs;
  expect(reads - readsBefore).toBeGreaterThanOrEqual(2);
  expect(reads - readsBefore).toBeLessThanOrEqual(elapsedMs / 50 + 2);
});

it("keeps the last list while the database does not answer, and then continues", async () => {
  let isDown = false;
  const feeds = new EndpointFeeds(test.ctx, async (...args) => {
    if (isDown) throw new Error("the database does not answer");
    return findEndpoints(...args);
  });
  const abort = new AbortController();
  const tenant = await tenantId("acme");
  const reader = follow(await streamEndpoints(feeds, tenant, "web", abort.signal), abort);
  await reader.next();
  isDown = true;
  await report(false);
  const late = reader.next();
  expect(await Promise.race([late, delay(300, "nothing")])).toBe("nothing");
  isDown = false;
  expect((await late).list.total).toBe(0);
});

it.each([path, "/v1/events"])(
  "ends a stream of %s within a heartbeat interval after the token is revoked",
  async (streamed) => {
    const body = { name: "short", role: "read", tenant: "acme" };
    const created = await test.request("POST", "/v1/tokens", { token: test.adminToken, body });
    const { secret, token } = (await created.json()) as { secret: string; token: { id: string } };
    const headers = { accept: "text/event-stream" };
    const abort = new AbortController();
    const { signal } = abort;
    const response = await test.request("GET", streamed, { token: secret, headers, signal });
    const text = response.text();
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, "now");
    try {
      clock.mockImplementation(() => now() + 20_000);
      expect(await Promise.race([text, delay(1_500, "open")])).toBe("open");
      await test.request("DELETE", `/v1/tokens/${token.id}`, { token: test.adminToken });
      clock.mockImplementation(() => now() + 40_000);
      await expect(text).resolves.toContain("id: ");
    } finally {
      clock.mockRestore();
      abort.abort();
    }
  },
);

it("counts streams among the long requests of their token, and a refused one does not count", async () => {
  const headers = { accept: "text/event-stream" };
  for (let round = 0; round < 60; round++) {
    const missing = "/v1/services/missing/endpoints";
    expect((await test.request("GET", missing, { token: acme, headers })).status).toBe(404);
  }
  const streams = await Promise.all(Array.from({ length: 50 }, () => open()));
  expect((await test.request("GET", path, { token: acme, headers })).status).toBe(429);
  await streams[0]?.close();
  await waitUntil("a slot is free", async () => {
    const abort = new AbortController();
    const { signal } = abort;
    const { status } = await test.request("GET", path, { token: acme, headers, signal });
    abort.abort();
    return status === 200;
  });
});
