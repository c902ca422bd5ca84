import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Host } from "../../../src/contracts/api/hosts.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import type { BerthSet } from "../../../src/contracts/api/sets.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";
import { waitUntil } from "../../support/wait-until.ts";

let test: TestApi;
let token: string;
let host: { hostId: string; credential: string };
let setId: string;

beforeAll(async () => {
  test = await createTestApi();
  token = test.adminToken;
  host = await enrollTestHost(test, "host-1");
  await sync({ usage }); // nothing is placed on a host that has not measured itself
  await send("POST", "/v1/services", serviceBody("web", { replicas: 1 }));
  await createPlacer(test.ctx).placeSets();
  const { items } = await json<{ items: BerthSet[] }>(send("GET", "/v1/sets?service=web"));
  setId = items[0]?.id ?? "";
});
afterAll(() => test.close());

const send = (method: string, path: string, body?: unknown, signal?: AbortSignal) =>
  test.request(method, path, {
    token,
    ...(body === undefined ? {} : { body }),
    ...(signal === undefined ? {} : { signal }),
  });
const json = async <T>(response: Response | Promise<Response>) =>
  (await (await response).json()) as T;
async function sync(parts: Record<string, unknown>): Promise<SyncResult> {
  const response = await test.request("POST", "/agent/v1/sync", {
    token: host.credential,
    body: { ...emptySync, ...parts },
  });
  expect(response.status).toBe(200);
  return json<SyncResult>(response);
}
const usage = {
  used: { cpuMillis: 100, memoryBytes: 1, volumeBytes: 0, rootfsBytes: 1 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 2 ** 33, volumeBytes: 0, rootfsBytes: 2 ** 36 },
};
const container = {
  name: "app",
  state: "running",
  ready: true,
  dockerId: "d1",
  restarts: 0,
  exitCode: null,
  startedAt: "2026-01-05T12:00:00.000Z",
  reason: null,
};
const running = (generation: number) => ({
  setId,
  generation,
  state: "running",
  ready: true,
  reason: null,
  gaveUp: false,
  address: "172.17.0.2",
  containers: [container],
});

it("sends a placed set to the agent of its host, and explains its placement", async () => {
  const { sets } = await sync({});
  expect(sets).toMatchObject([{ setId, service: "web", desired: "running" }]);
  const explanation = await json<{ text: string; placement: unknown }>(
    send("GET", `/v1/sets/${setId}/explain`),
  );
  expect(explanation.placement).toMatchObject({ hostId: host.hostId, hostName: "host-1" });
  expect(explanation.text).toContain("host-1");
});

it("explains a set that fits on no host (I5)", async () => {
  const body = serviceBody("huge", {
    replicas: 1,
    template: { ...serviceBody("x").template, cpu: 64 },
  });
  await send("POST", "/v1/services", body);
  await createPlacer(test.ctx).placeSets();
  const { items } = await json<{ items: BerthSet[] }>(send("GET", "/v1/sets?service=huge"));
  const explanation = await json<{ rejection: unknown; text: string }>(
    send("GET", `/v1/sets/${items[0]?.id}/explain`),
  );
  expect(explanation.rejection).toMatchObject({ hostsTotal: 1 });
  expect(explanation.text).toContain("found no host that fits. Of 1 host:");
  expect(explanation.text).toContain(
    "To fix: add hosts, use smaller sets, or raise the pool's overcommit",
  );
  expect(await json(send("GET", "/v1/services/huge"))).toMatchObject({
    settled: false,
    reason: { code: expect.any(String) as string },
  });
});

it("ends the wait for a set when its agent reports it", async () => {
  const waiting = send("GET", `/v1/sets/${setId}/wait?for=ready&timeoutSeconds=20`);
  const { sets } = await sync({});
  await sync({ observed: [running(sets[0]?.generation ?? 0)] });
  expect(await json(waiting)).toMatchObject({
    reached: true,
    set: { state: "running", address: "172.17.0.2", containers: [{ name: "app" }] },
  });
  const renamed = send("GET", `/v1/sets/${setId}/wait?state=stopped&timeoutSeconds=0`);
  expect(await json(renamed)).toMatchObject({ reached: false });
  expect(await json(send("GET", "/v1/services/web"))).toMatchObject({ settled: true });
});

it("a set is completed while all of its containers have exited with success", async () => {
  const readSet = () => json<BerthSet>(send("GET", `/v1/sets/${setId}`));
  const { sets } = await sync({ full: true });
  const report = running(sets[0]?.generation ?? 0);
  expect(await readSet()).toMatchObject({ ready: true, completed: false });
  const exited = { ...container, state: "exited" as const, exitCode: 0 };
  await sync({ observed: [{ ...report, containers: [exited, { ...container, name: "side" }] }] });
  expect(await readSet()).toMatchObject({ ready: true, completed: false });
  await sync({ observed: [{ ...report, containers: [exited] }] });
  expect(await readSet()).toMatchObject({ state: "running", ready: true, completed: true });
  const failed = { ...exited, ready: false, exitCode: 1 };
  await sync({ observed: [{ ...report, ready: false, containers: [failed] }] });
  expect(await readSet()).toMatchObject({ ready: false, completed: false });
  await sync({ observed: [report] });
});

describe("logs", () => {
  const logs = (query = "", signal?: AbortSignal) =>
    send("GET", `/v1/sets/${setId}/containers/app/logs${query}`, undefined, signal);
  /** Acts as the agent of the host, which receives the request with its next sync. */
  const takeRequest = async () => {
    let streamId = "";
    await waitUntil("the agent is asked for a log", async () => {
      streamId = (await sync({})).streams[0]?.streamId ?? "";
      return streamId !== "";
    });
    return streamId;
  };
  const upload = (streamId: string, body: string, query = "") =>
    test.api.app.request(`/agent/v1/streams/${streamId}${query}`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${host.credential}`,
        "content-type": "application/octet-stream",
      },
      body,
    });

  it("relays the agent's log to the reader as text", async () => {
    const reading = logs("?tail=2");
    const streamId = await takeRequest();
    const uploaded = await upload(streamId, "one\ntwo\n");
    const response = await reading;
    expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
    expect(await response.text()).toBe("one\ntwo\n");
    expect(uploaded.status).toBe(204);
  });

  it("begins the response to a follower before the first line arrives", async () => {
    const abort = new AbortController();
    const reading = logs("?follow=true", abort.signal);
    await takeRequest();
    const response = await reading;
    expect(response.status).toBe(200);
    abort.abort();
    await response.body?.cancel().catch(() => undefined);
  });

  it("answers 503 with the agent's message when the agent cannot provide the log", async () => {
    const reading = logs();
    const streamId = await takeRequest();
    await upload(streamId, "", "?error=the%20container%20was%20never%20created");
    const response = await reading;
    expect(response.status).toBe(503);
    expect(await response.text()).toContain("the container was never created");
  });

  it("answers 404 to an agent whose log has no reader", async () => {
    expect((await upload("str_01jd0000000000000000000001", "x")).status).toBe(404);
  });

  it("answers 404 for a container that the set does not have", async () => {
    const response = await send("GET", `/v1/sets/${setId}/containers/nothing/logs`);
    expect(response.status).toBe(404);
  });

  it("answers 409 for a set that is on no host", async () => {
    const { items } = await json<{ items: BerthSet[] }>(send("GET", "/v1/sets?service=huge"));
    const response = await send("GET", `/v1/sets/${items[0]?.id}/containers/app/logs`);
    expect(response.status).toBe(409);
  });
});

describe("verbs of sets", () => {
  it("stop and start change the desired state, which the agent receives", async () => {
    expect((await send("POST", `/v1/sets/${setId}/stop`)).status).toBe(202);
    expect((await sync({})).sets[0]?.desired).toBe("stopped");
    expect((await send("POST", `/v1/sets/${setId}/start`)).status).toBe(202);
    expect((await sync({})).sets[0]?.desired).toBe("running");
  });

  it("restart recreates containers", async () => {
    const before = (await sync({})).sets[0];
    await send("POST", `/v1/sets/${setId}/restart`);
    const after = (await sync({})).sets[0];
    expect(after?.restartGeneration).toBeGreaterThan(before?.restartGeneration ?? 0);
  });

  it("restart under one key restarts once", async () => {
    const restart = () =>
      test.request("POST", `/v1/sets/${setId}/restart`, {
        token,
        headers: { "idempotency-key": "restart-once" },
      });
    await restart();
    const once = (await sync({})).sets[0]?.restartGeneration;
    await restart();
    expect((await sync({})).sets[0]?.restartGeneration).toBe(once);
  });

  it("answers 409 for a set without a host", async () => {
    const { items } = await json<{ items: BerthSet[] }>(send("GET", "/v1/sets?service=huge"));
    expect((await send("POST", `/v1/sets/${items[0]?.id}/stop`)).status).toBe(409);
  });
});

describe("hosts", () => {
  const hostPath = () => `/v1/hosts/${host.hostId}`;

  it("show their booked and reported amounts", async () => {
    const { items } = await json<{ items: Host[] }>(send("GET", "/v1/hosts"));
    expect(items).toHaveLength(1);
    expect(items[0]).toMatchObject({
      name: "host-1",
      allocated: { cpuMillis: 500 },
      reported: { used: { cpuMillis: 100 } },
      sets: 1,
    });
  });

  it("are cordoned and uncordoned", async () => {
    expect(await json(send("POST", `${hostPath()}/cordon`))).toMatchObject({ cordoned: true });
    expect(await json(send("POST", `${hostPath()}/uncordon`))).toMatchObject({
      cordoned: false,
      draining: false,
    });
  });

  it("accept labels and keep their taints", async () => {
    const patched = await send("PATCH", hostPath(), { labels: { disk: "ssd" } });
    expect(await json(patched)).toMatchObject({ labels: { disk: "ssd" }, taints: [] });
  });

  it("answers 412 to a change of a host with a stale If-Match", async () => {
    const read = await send("GET", hostPath());
    const etag = read.headers.get("etag") ?? "";
    const patch = (disk: string) =>
      test.request("PATCH", hostPath(), {
        token: test.adminToken,
        body: { labels: { disk } },
        headers: { "if-match": etag },
      });
    expect(etag).toMatch(/^"\d+"$/);
    expect((await patch("nvme")).status).toBe(200);
    expect((await patch("hdd")).status).toBe(412);
    expect(await json(send("GET", hostPath()))).toMatchObject({ labels: { disk: "nvme" } });
  });

  it("answers 409 to the deletion of a host with sets", async () => {
    expect((await send("DELETE", hostPath())).status).toBe(409);
  });

  it("can be drained", async () => {
    expect(await json(send("POST", `${hostPath()}/drain`))).toMatchObject({ draining: true });
    expect(await json(send("GET", `/v1/sets/${setId}`))).toMatchObject({ id: setId });
  });
});

describe("host pools", () => {
  it("answers 412 to a replacement of a pool with a stale If-Match", async () => {
    const put = (cpuMillis: number, version?: number) =>
      test.request("PUT", "/v1/host-pools/bound", {
        token: test.adminToken,
        body: { overcommitPercent: { cpuMillis } },
        ...(version === undefined ? {} : { headers: { "if-match": `"${version}"` } }),
      });
    expect((await put(120, 7)).status).toBe(412);
    const first = await put(120);
    const { version } = (await first.json()) as { version: number };
    expect(first.headers.get("etag")).toBe(`"${version}"`);
    expect((await put(130, version)).status).toBe(200);
    expect((await put(140, version)).status).toBe(412);
  });

  it("store overcommit limits, and each change has a newer version", async () => {
    const put = async (name: string, cpuMillis: number) =>
      json<{ version: number }>(
        send("PUT", `/v1/host-pools/${name}`, { overcommitPercent: { cpuMillis } }),
      );
    const first = await put("batch", 200);
    const second = await put("default", 150);
    expect(second.version).toBeGreaterThan(first.version);
    const { items } = await json<{ items: { name: string; overcommitPercent: unknown }[] }>(
      send("GET", "/v1/host-pools"),
    );
    expect(items.map((pool) => pool.name)).toEqual(["batch", "bound", "default"]);
    expect(items[0]?.overcommitPercent).toMatchObject({ cpuMillis: 200, memoryBytes: 100 });
  });
});

it("a dry run describes its effects and changes nothing", async () => {
  const before = await json(send("GET", "/v1/sets"));
  const plan = await json(
    send("POST", "/v1/plan", { kind: "create", service: serviceBody("planned", { replicas: 2 }) }),
  );
  expect(plan).toMatchObject({ removed: 0, text: expect.any(String) as string });
  expect(await json(send("GET", "/v1/sets"))).toEqual(before);
  expect((await send("GET", "/v1/services/planned")).status).toBe(404);
});
