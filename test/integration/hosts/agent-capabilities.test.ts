import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it } from "vitest";
import { CAPABILITIES_HEADER } from "../../../src/contracts/agent-protocol/agent-capabilities.ts";
import { ownFeatures } from "../../../src/contracts/agent-protocol/agent-features.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import type { Host } from "../../../src/contracts/api/hosts.ts";
import { countHostsWithIgnoredSelfTest } from "../../../src/control/hosts/list-hosts.ts";
import { createPlacer, type Placer } from "../../../src/control/placement/place-pending-sets.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { startSimulatedAgent } from "../../support/agent/simulated-agent.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";
import { waitUntil } from "../../support/wait-until.ts";

/** Agents report what they can do, and sets avoid hosts whose agents cannot run them. */
let api: TestApi;
let placer: Placer;
beforeEach(async () => {
  api = await createTestApi();
  placer = createPlacer(api.ctx);
});
afterEach(() => api.close());

const measured = {
  used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 8 * 2 ** 30, volumeBytes: 0, rootfsBytes: 2 ** 40 },
  reclaimableVolumeBytes: 0,
  trashedVolumeBytes: 0,
  volumeReason: null,
  disk: null,
  setMemoryBytes: {},
};
const docker = {
  version: "28.0.1",
  imageStore: "overlay2",
  cgroupDriver: "systemd",
  cgroupVersion: 2,
};
const passed = { state: "passed", reason: null };
const failed = {
  state: "failed",
  reason: { code: "bridge-missing", text: "Docker has no bridge network." },
};

interface TestHost {
  hostId: string;
  credential: string;
}

/** @param version undefined for an agent of an earlier release */
async function sync(
  { credential }: TestHost,
  version?: string,
  parts: object = {},
): Promise<SyncResult> {
  const answer = await api.request("POST", "/agent/v1/sync", {
    token: credential,
    headers: version === undefined ? {} : { [CAPABILITIES_HEADER]: version },
    body: { ...emptySync, usage: measured, ...parts },
  });
  expect(answer.status).toBe(200);
  return (await answer.json()) as SyncResult;
}

const syncWith = (host: TestHost, version: string, features: string[], selfTest: object | null) =>
  sync(host, version, { capabilities: { features, docker, selfTest } });

async function getHost({ hostId }: TestHost): Promise<Host> {
  const answer = await api.request("GET", `/v1/hosts/${hostId}`, { token: api.adminToken });
  return (await answer.json()) as Host;
}

/** A service with one set. */
function bodyWith(name: string, options: object, template: object = {}) {
  const body = { ...serviceBody(name), replicas: 1 } as unknown as {
    template: { containers: { options: object }[] };
  };
  const containers = body.template.containers.map((container) => ({
    ...container,
    options: { ...container.options, ...options },
  }));
  return { ...body, template: { ...body.template, ...template, containers } };
}

let keys = 0;
async function post(url: string, body: object): Promise<Response> {
  const headers = { "idempotency-key": `key-${++keys}` };
  return api.request("POST", url, { token: await api.tokenOf("tenant", "food"), headers, body });
}

async function readSets(service: string) {
  return queryRows<{ hostId: string | null; text: string | null; id: string }>(
    api.ctx.db,
    sql`select s.id, s.host_id as "hostId", s.reason->>'text' as text from sets s
          join services v on v.id = s.service_id where v.name = ${service}`,
  );
}

const readEvents = async (kind: string) =>
  (
    await queryRows<{ text: string }>(
      api.ctx.db,
      sql`select text from events where kind = ${kind} order by id`,
    )
  ).map(({ text }) => text);

it("are requested once for each version, stored and shown", async () => {
  const host = await enrollTestHost(api, "h1");
  expect(await getHost(host)).toMatchObject({ capabilities: null });
  expect(await sync(host, "v1")).toMatchObject({ sendCapabilities: true });
  const stored = await syncWith(host, "v1", ["init", "tmpfs"], passed);
  expect(stored.sendCapabilities).toBeUndefined();
  expect((await sync(host, "v1")).sendCapabilities).toBeUndefined();
  expect(await getHost(host)).toMatchObject({
    reason: null,
    capabilities: { features: ["init", "tmpfs"], docker, setsMax: null, selfTest: passed },
  });
  expect(await sync(host, "v2", { waitMs: 20_000 })).toMatchObject({ sendCapabilities: true });
});

it("are requested again after an older API has omitted members of the same version", async () => {
  const host = await enrollTestHost(api, "h1");
  await syncWith(host, "v1", ["init"], passed);
  for (const member of ["tunnelAddress", "hostAddress"]) {
    await api.ctx.db.execute(sql`update hosts set capabilities = capabilities - ${member}::text`);
    expect(await sync(host, "v1")).toMatchObject({ sendCapabilities: true });
    await syncWith(host, "v1", ["init"], passed);
    expect((await sync(host, "v1")).sendCapabilities).toBeUndefined();
  }
});

it("show why a host reaches no others: it has no tunnel address", async () => {
  const first = await enrollTestHost(api, "h1");
  const second = await enrollTestHost(api, "h2");
  const report = (host: TestHost, version: string, tunnelAddress: string | null) =>
    sync(host, version, {
      capabilities: {
        features: ["networks"],
        docker,
        setsMax: null,
        selfTest: passed,
        tunnelAddress,
      },
    });
  await report(first, "v1", null);
  expect(await getHost(first)).toMatchObject({ reason: null });
  await report(second, "v1", "192.0.2.2");
  expect(await getHost(first)).toMatchObject({ reason: { code: "tunnel-address-missing" } });
  expect(await getHost(second)).toMatchObject({ reason: null });
  await report(first, "v2", "192.0.2.1");
  expect(await getHost(first)).toMatchObject({ reason: null });

  // Two hosts with one address are an error of each, unless one of them is lost.
  await report(first, "v3", "192.0.2.2");
  for (const host of [first, second])
    expect(await getHost(host)).toMatchObject({
      reason: { code: "tunnel-address-shared", text: expect.stringContaining("192.0.2.2") },
    });
  await api.ctx.db.execute(sql`update hosts set state = 'lost' where id = ${second.hostId}`);
  for (const host of [first, second])
    expect((await getHost(host)).reason?.code).not.toBe("tunnel-address-shared");
});

it("are read without members and features that only newer agents know", async () => {
  const host = await enrollTestHost(api, "h1");
  const newer = { features: ["init", 7, "Not A Name"], docker: { ...docker, arch: "arm64" } };
  await sync(host, "v1", { capabilities: { ...newer, selfTest: passed, gpu: true } });
  expect(await getHost(host)).toMatchObject({
    capabilities: { features: ["init"], docker, selfTest: passed },
  });
});

it("keep sets with new options off hosts with older agents", async () => {
  const old = await enrollTestHost(api, "old");
  await sync(old);
  expect(
    (await post("/v1/services", bodyWith("web", { init: true }, { shm: "16Mi" }))).status,
  ).toBe(201);
  await placer.placeSets();
  expect(await readSets("web")).toEqual([
    expect.objectContaining({
      hostId: null,
      text: expect.stringContaining(
        "0 of 1 host fits: agent too old for an option of the template on the only host [agent-too-old]",
      ),
    }),
  ]);
  const plan = await post("/v1/plan", { kind: "create", service: bodyWith("b", { init: true }) });
  expect(await plan.json()).toMatchObject({
    placed: 0,
    reasons: [{ reason: "agent-too-old", hosts: 1 }],
  });
  // A template without new options still starts there.
  expect((await post("/v1/services", bodyWith("plain", {}))).status).toBe(201);
  await placer.placeSets();
  expect(await readSets("plain")).toMatchObject([{ hostId: old.hostId }]);

  const newer = await enrollTestHost(api, "new");
  await syncWith(newer, "v1", ["init"], passed);
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([{ hostId: null }]);
  // A gained feature makes waiting sets due immediately.
  await syncWith(newer, "v2", ["init", "shared-memory"], passed);
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([{ hostId: newer.hostId }]);
});

it("bound the sets of a host by the limits of its machine", async () => {
  const host = await enrollTestHost(api, "h1");
  const report = (version: string, setsMax: number | null) =>
    sync(host, version, { capabilities: { features: [], docker, setsMax, selfTest: passed } });
  await report("v1", 1);
  expect(await getHost(host)).toMatchObject({ capabilities: { setsMax: 1 } });
  await post("/v1/services", { ...bodyWith("web", {}), replicas: 3 });
  await placer.placeSets();
  const countPlaced = async () =>
    (await readSets("web")).filter(({ hostId }) => hostId !== null).length;
  expect(await countPlaced()).toBe(1);
  expect((await readSets("web")).find(({ hostId }) => hostId === null)?.text).toContain(
    "[too-many-sets]",
  );
  // A raised limit makes waiting sets due immediately.
  await report("v2", 2);
  await placer.placeSets();
  expect(await countPlaced()).toBe(2);
  await report("v3", null);
  await placer.placeSets();
  expect(await countPlaced()).toBe(3);
  // A lower limit moves nothing.
  await report("v4", 0);
  expect(await countPlaced()).toBe(3);
});

it("end with an agent of an earlier release, whose sets stay", async () => {
  const host = await enrollTestHost(api, "h1");
  await syncWith(host, "v1", ["init"], passed);
  await post("/v1/services", bodyWith("web", { init: true }));
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([{ hostId: host.hostId }]);

  await sync(host, "unknown");
  expect((await getHost(host)).capabilities).not.toBeNull();
  // The agent could not read the set, so the answer omits it, and is not full.
  expect(await sync(host)).toMatchObject({ full: false, sets: [] });
  await sync(host);
  expect((await getHost(host)).capabilities).toBeNull();
  expect(await readEvents("host-features-lost")).toEqual([
    "The agent lacks features that it had: init. 1 set of the host uses one of them. Upgrade the agent.",
  ]);
  await post("/v1/services", bodyWith("later", { init: true }));
  await placer.placeSets();
  expect(await readSets("later")).toMatchObject([{ hostId: null }]);
  expect(await readSets("web")).toMatchObject([{ hostId: host.hostId }]);

  // The upgraded agent has the same version as before the rollback.
  expect(await sync(host, "v1")).toMatchObject({ sendCapabilities: true });
  await syncWith(host, "v1", ["init"], passed);
  await placer.placeSets();
  expect(await readSets("later")).toMatchObject([{ hostId: host.hostId }]);
  const { full, sets } = await sync(host, "v1");
  expect({ full, sets: sets.length }).toEqual({ full: true, sets: 2 });
});

it("are those of a real agent within a moment after its start", async () => {
  const agent = await startSimulatedAgent(api, "h1");
  const host = { hostId: agent.hostId, credential: "" };
  await waitUntil(
    "the host has capabilities",
    async () => (await getHost(host)).capabilities !== null,
  );
  expect((await getHost(host)).capabilities?.features).toEqual(ownFeatures);
  await agent.stop();
});

it("take the host from new sets from a failed self test until one passes", async () => {
  const host = await enrollTestHost(api, "h1");
  await syncWith(host, "v1", [], failed);
  expect(await getHost(host)).toMatchObject({
    state: "ready",
    reason: {
      code: "self-test-failed",
      text: expect.stringContaining("Docker has no bridge network."),
    },
  });
  await post("/v1/services", bodyWith("web", {}));
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([
    { hostId: null, text: expect.stringContaining("[host-self-test-failed]") },
  ]);
  // A restarted agent has not tested yet, so the last result stays.
  await syncWith(host, "v2", [], null);
  expect((await getHost(host)).reason?.code).toBe("self-test-failed");
  await syncWith(host, "v3", [], passed);
  expect((await getHost(host)).reason).toBeNull();
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([{ hostId: host.hostId }]);
  // A test that fails later leaves the set where it is.
  await syncWith(host, "v4", [], failed);
  expect(await readSets("web")).toMatchObject([{ hostId: host.hostId }]);
  expect(await readEvents("host-self-test-failed")).toHaveLength(2);
  expect(await readEvents("host-self-test-passed")).toHaveLength(1);
});

it("leave the host to new sets if its self test is only reported or off", async () => {
  const host = await enrollTestHost(api, "h1");
  await syncWith(host, "v1", [], failed);
  await post("/v1/services", bodyWith("web", {}));
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([{ hostId: null }]);
  await syncWith(host, "v2", [], { ...failed, state: "reported" });
  expect(await getHost(host)).toMatchObject({
    reason: { code: "self-test-failed", text: expect.stringContaining("is `report`") },
  });
  await placer.placeSets();
  expect(await readSets("web")).toMatchObject([{ hostId: host.hostId }]);
  expect((await readEvents("host-self-test-failed"))[1]).toContain("lets the host take new sets");
  await syncWith(host, "v3", [], { state: "off", reason: null });
  expect(await getHost(host)).toMatchObject({
    reason: null,
    capabilities: { selfTest: { state: "off" } },
  });
});

it("are ignored while self tests fail on more than 30% of a pool, which a metric counts", async () => {
  const hosts = await Promise.all(
    ["h1", "h2", "h3", "h4"].map((name) => enrollTestHost(api, name)),
  );
  const [first, second, ...others] = hosts;
  if (!first || !second) throw new Error("four hosts are enrolled");
  for (const host of others) await syncWith(host, "v1", [], passed);
  await syncWith(first, "v1", [], failed);
  await syncWith(second, "v1", [], passed);
  const place = async (service: string) => {
    const spread = { placement: { antiAffinity: [service] } };
    await post("/v1/services", { ...bodyWith(service, {}), ...spread, replicas: 4 });
    await placer.placeSets();
    return (await readSets(service)).map(({ hostId }) => hostId);
  };
  // One failed host of four: it takes no new sets.
  const one = await place("one");
  expect(one).not.toContain(first.hostId);
  expect(await countHostsWithIgnoredSelfTest(api.ctx)).toBe(0);
  await syncWith(second, "v2", [], failed);
  expect(await countHostsWithIgnoredSelfTest(api.ctx)).toBe(2);
  // The row of the first host did not change since the last plan.
  const two = await place("two");
  expect(two).toEqual(expect.arrayContaining(hosts.map(({ hostId }) => hostId)));
  await syncWith(second, "v3", [], passed);
  expect(await place("three")).not.toContain(first.hostId);
});
