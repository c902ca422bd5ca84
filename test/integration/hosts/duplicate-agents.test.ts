import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  AGENT_IDENTITY_HEADER,
  encodeAgentIdentity,
} from "../../../src/contracts/agent-protocol/agent-identity.ts";
import { CAPABILITIES_HEADER } from "../../../src/contracts/agent-protocol/agent-capabilities.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { getHost } from "../../../src/control/hosts/get-host.ts";
import { createPlacer } from "../../../src/control/placement/place-pending-sets.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { newId } from "../../../src/lib/ids.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  serviceBody,
  type TestApi,
} from "../../support/api/test-api.ts";

const first = { machineId: "m1", bootId: "b1", processId: "p1", startedMs: 100 };
const copy = { machineId: "m2", bootId: "b2", processId: "p2", startedMs: 100 };

let test: TestApi;
let host: { hostId: string; credential: string };
beforeEach(async () => {
  test = await createTestApi();
  host = await enrollTestHost(test, "h1");
});
afterEach(() => test.close());

async function sync(
  identity: typeof first | undefined,
  more: Record<string, unknown> = {},
  others: Record<string, string> = {},
): Promise<SyncResult> {
  const headers: Record<string, string> =
    identity === undefined
      ? others
      : { [AGENT_IDENTITY_HEADER]: encodeAgentIdentity(identity), ...others };
  const body = { ...emptySync, ...more };
  const options = { token: host.credential, headers, body };
  const response = await test.request("POST", "/agent/v1/sync", options);
  expect(response.status).toBe(200);
  return (await response.json()) as SyncResult;
}

async function readHost(): Promise<Record<string, unknown>> {
  const [row] = await queryRows<Record<string, unknown>>(
    test.ctx.db,
    sql`select lease_expires_at::text as lease, accepted_generation::int as accepted, agent_version as version from hosts`,
  );
  return row ?? {};
}

const measured = {
  used: { cpuMillis: 0, memoryBytes: 0, volumeBytes: 0, rootfsBytes: 0 },
  allocatable: { cpuMillis: 8_000, memoryBytes: 8 * 2 ** 30, volumeBytes: 0, rootfsBytes: 2 ** 40 },
  reclaimableVolumeBytes: 0,
  trashedVolumeBytes: 0,
  volumeReason: null,
  disk: null,
  setMemoryBytes: {},
};

it("a second machine gets no sets, stores no report and renews no lease (A19)", async () => {
  await sync(first, { usage: measured });
  const tenant = { token: await test.tokenOf("tenant", "food"), body: serviceBody("web") };
  const headers = { "idempotency-key": "web-1" };
  expect((await test.request("POST", "/v1/services", { ...tenant, headers })).status).toBe(201);
  await createPlacer(test.ctx).placeSets();
  expect((await sync(first)).sets).toHaveLength(2);

  const before = await readHost();
  const report = { agentVersion: "copy", acceptedGeneration: 1, usage: measured };
  const answer = await sync(copy, report);
  expect(answer).toMatchObject({ admission: "another-machine", sets: [], full: false });
  expect(await readHost()).toEqual(before);
  expect((await sync(first)).admission).toBe("accepted");
});

it("a second machine is reported by one event and the reason of the host", async () => {
  await sync(first);
  for (let round = 0; round < 3; round++) await sync(copy);
  const events = await queryRows<{ text: string }>(
    test.ctx.db,
    sql`select text from events where kind = 'host-duplicated' and host_id = ${host.hostId}`,
  );
  expect(events).toHaveLength(1);
  const { state, reason } = await getHost(test.ctx, host.hostId);
  expect({ state, code: reason?.code }).toEqual({ state: "ready", code: "host-duplicated" });
  await test.ctx.db.execute(
    sql`update hosts set agent = jsonb_set(agent, '{duplicates,another-machine,seenMs}', '1')`,
  );
  expect((await getHost(test.ctx, host.hostId)).reason).toBeNull();
});

it("an operator accepts the machine of a lost host, whose next sync binds it", async () => {
  await sync(first);
  const accept = async (hostId = host.hostId) => {
    const headers = { "idempotency-key": `accept-${Math.random()}` };
    const options = { token: test.adminToken, headers };
    return test.request("POST", `/v1/hosts/${hostId}/accept-machine`, options);
  };
  const refused = await accept();
  expect(refused.status).toBe(409);
  expect(await refused.json()).toMatchObject({ code: "state-conflict" });
  await test.ctx.db.execute(sql`update hosts set lease_expires_at = now() - interval '1 second'`);
  expect((await sync(copy)).admission).toBe("another-machine");
  const accepted = await accept();
  expect(await accepted.json()).toMatchObject({ id: host.hostId, reason: null });
  expect((await accept()).status).toBe(200);
  const events = await queryRows<{ text: string }>(
    test.ctx.db,
    sql`select text from events where kind = 'host-machine-accepted' and host_id = ${host.hostId}`,
  );
  expect(events).toHaveLength(1);
  expect((await sync(copy)).admission).toBe("accepted");
  expect((await sync(first)).admission).toBe("another-machine");
  expect((await accept("host_0000000000000000000000000A")).status).toBe(404);
});

it("a new boot waits for a previous one that may still run, and its claim wakes that one", async () => {
  await sync(first);
  const rebooted = { ...first, bootId: "b3", processId: "p3", startedMs: 5 };
  const woken = test.ctx.signals.waitFor(`host:${host.hostId}`, 5_000, AbortSignal.timeout(5_000));
  expect(await sync(rebooted)).toMatchObject({ admission: "wait", sets: [] });
  expect(await woken).toBe(true);
  await test.ctx.db.execute(
    sql`update hosts set agent = jsonb_set(agent, '{claim,sinceMs}', '1000')`,
  );
  // The first boot has not synced since the claim.
  expect((await sync(rebooted)).admission).toBe("accepted");
  expect((await sync(first)).admission).toBe("another-boot");
});

it("concurrent first syncs of two processes leave the host to the newer one", async () => {
  const newer = { ...first, processId: "p9", startedMs: 900 };
  await Promise.all([first, newer, first, newer].map((identity) => sync(identity)));
  expect((await sync(newer)).admission).toBe("accepted");
  expect((await sync(first)).admission).toBe("newer-process");
});

it("an agent of an older release has no identity, and is served as before", async () => {
  await sync(first);
  const answer = await sync(undefined);
  expect(answer.full).toBe(true);
  expect(answer).not.toHaveProperty("admission");
});

it("a full answer names the deleted hosts that the machine was, and no others", async () => {
  await sync(first);
  await test.ctx.db.execute(sql`update hosts set cordoned = true`);
  await deleteHost(test.ctx, host.hostId, {});
  const deletedId = host.hostId;
  host = await enrollTestHost(test, "h2");
  expect((await sync(first)).previousHosts).toEqual([deletedId]);
  expect(await sync(first, { full: false })).not.toHaveProperty("previousHosts");
  host = await enrollTestHost(test, "h3");
  expect((await sync(copy)).previousHosts).toEqual([]);
  expect(await sync(undefined)).not.toHaveProperty("previousHosts");
});

it("an operator lets a machine with a new id adopt the volumes of its deleted host", async () => {
  await sync(first);
  await test.ctx.db.execute(sql`update hosts set cordoned = true`);
  await deleteHost(test.ctx, host.hostId, {});
  const deletedHostId = host.hostId;
  host = await enrollTestHost(test, "h2");
  const adopt = async (body: object) => {
    const headers = { "idempotency-key": `adopt-${Math.random()}` };
    const path = `/v1/hosts/${host.hostId}/adopt-volumes`;
    return (await test.request("POST", path, { token: test.adminToken, headers, body })).status;
  };
  const order = { deletedHostId, confirm: deletedHostId };
  expect((await sync(copy)).previousHosts).toEqual([]);
  expect(await adopt(order)).toBe(409); // the agent has reported no such volume

  const foreignId = newId("host");
  const otherHostVolumes = [deletedHostId, foreignId].map((hostId) => ({ hostId, volumes: 2 }));
  const capabilities = { features: [], docker: null, setsMax: null, selfTest: null };
  for (const version of ["v1", "v2"]) {
    const parts = { capabilities: { ...capabilities, otherHostVolumes } };
    await sync(copy, parts, { [CAPABILITIES_HEADER]: version });
  }
  const unread = { capabilities: { ...capabilities, otherHostVolumes: null } };
  await sync(copy, unread, { [CAPABILITIES_HEADER]: "v3" });
  expect((await getHost(test.ctx, host.hostId)).capabilities).toMatchObject({ otherHostVolumes });
  const texts = async (kind: string) =>
    queryRows<{ text: string }>(
      test.ctx.db,
      sql`select text from events where kind = ${kind} and host_id = ${host.hostId}`,
    );
  const [found, ...more] = await texts("host-volumes-found");
  expect(found?.text).toContain(`2 volumes of the deleted host ${deletedHostId}`);
  expect(more).toEqual([]);

  const headers = { [CAPABILITIES_HEADER]: "v3" };
  expect((await sync(copy, {}, headers)).previousHosts).toEqual([]);
  expect(await adopt({ deletedHostId })).toBe(422);
  expect(await adopt({ deletedHostId: foreignId, confirm: foreignId })).toBe(409);
  expect((await sync(copy, {}, headers)).previousHosts).toEqual([]);
  for (let round = 0; round < 2; round++) expect(await adopt(order)).toBe(202);
  expect((await sync(copy, {}, headers)).previousHosts).toEqual([deletedHostId]);
  expect(await texts("host-volumes-adopted")).toHaveLength(2);
});
