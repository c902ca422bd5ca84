import { sql } from "drizzle-orm";
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  AGENT_IDENTITY_HEADER,
  encodeAgentIdentity,
} from "../../../src/contracts/agent-protocol/agent-identity.ts";
import { CREDENTIAL_ROTATION_FEATURE } from "../../../src/contracts/agent-protocol/agent-features.ts";
import { CAPABILITIES_HEADER } from "../../../src/contracts/agent-protocol/agent-capabilities.ts";
import type { SyncResult } from "../../../src/contracts/agent-protocol/sync.ts";
import type { Host } from "../../../src/contracts/api/hosts.ts";
import { findHostLease } from "../../../src/db/queries/hosts/write-hosts.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { hashSecret, newSecret } from "../../../src/lib/token-hash.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  type TestApi,
} from "../../support/api/test-api.ts";

const capabilities = {
  features: [CREDENTIAL_ROTATION_FEATURE],
  docker: null,
  setsMax: null,
  selfTest: null,
  otherHostVolumes: null,
  tunnelAddress: null,
  hostAddress: null,
};
const agent = { machineId: "m1", bootId: "b1", processId: "p1", startedMs: 100 };

let test: TestApi;
let hostId: string;
let old: string;
beforeEach(async () => {
  test = await createTestApi();
  ({ hostId, credential: old } = await enrollTestHost(test, "h1"));
});
afterEach(() => test.close());

/** Null for a request without an identity. */
type Identity = typeof agent | null;

function post(path: string, credential: string, body: object, identity: Identity = agent) {
  const headers = {
    ...(identity && { [AGENT_IDENTITY_HEADER]: encodeAgentIdentity(identity) }),
    [CAPABILITIES_HEADER]: "v1",
  };
  return test.request("POST", path, { token: credential, headers, body });
}

/** A sync of an agent that rotates its credential. Returns the status if it is not 200. */
async function sync(
  credential: string,
  more: object = {},
  identity: Identity = agent,
): Promise<SyncResult | number> {
  const body = { ...emptySync, capabilities, ...more };
  const response = await post("/agent/v1/sync", credential, body, identity);
  return response.status === 200 ? ((await response.json()) as SyncResult) : response.status;
}

const isAccepted = async (credential: string) => typeof (await sync(credential)) === "object";

const propose = async (bearer: string, credential: string, identity: Identity = agent) =>
  (await post("/agent/v1/rotate-credential", bearer, { protocol: 1, credential }, identity)).status;

async function request(): Promise<{ status: number; body: unknown }> {
  const path = `/v1/hosts/${hostId}/rotate-credential`;
  const response = await test.request("POST", path, { token: test.adminToken });
  return { status: response.status, body: await response.json() };
}

async function readHost(): Promise<Host> {
  const response = await test.request("GET", `/v1/hosts/${hostId}`, { token: test.adminToken });
  return (await response.json()) as Host;
}

const listEvents = () =>
  queryRows<{ cause: string }>(
    test.ctx.db,
    sql`select data->>'cause' as cause from events where kind = 'host-credential-rotated' order by id`,
  );

it("both credentials are valid until the first use of the next one", async () => {
  expect(await sync(old)).not.toHaveProperty("rotateCredential");
  const { credential: before, enrolledAt } = await readHost();
  expect(before).toEqual({ replacedAt: null, rotationRequestedAt: null });
  const requested = await request();
  expect(requested.body).toMatchObject({ credential: { rotationRequestedAt: expect.any(String) } });
  expect(await request()).toEqual(requested);
  expect(await sync(old)).toMatchObject({ rotateCredential: true });
  expect(await sync(old, { full: false })).toMatchObject({ rotateCredential: true });

  const next = newSecret();
  expect(await propose(old, next)).toBe(200);
  // The answer was lost.
  expect(await propose(old, next)).toBe(200);
  expect(await isAccepted(old)).toBe(true);
  expect(await listEvents()).toEqual([{ cause: "request" }]);

  expect(await sync(next)).not.toHaveProperty("rotateCredential");
  expect(await sync(old)).toBe(401);
  expect(await propose(old, newSecret())).toBe(401);
  expect(await propose(next, next)).toBe(200);
  expect(await listEvents()).toEqual([{ cause: "request" }, { cause: "used" }]);
  const { credential } = await readHost();
  expect(credential.rotationRequestedAt).toBeNull();
  expect(Date.parse(credential.replacedAt ?? "")).toBeGreaterThan(Date.parse(enrolledAt));
});

it("a host that was off for a year returns with either credential", async () => {
  await sync(old);
  await request();
  const next = newSecret();
  expect(await propose(old, next)).toBe(200);
  await test.ctx.db.execute(
    sql`update hosts set rotation_requested_at = now() - interval '1 year', enrolled_at = now() - interval '2 years'`,
  );
  expect(await isAccepted(old)).toBe(true);
  expect(await isAccepted(next)).toBe(true);
  expect(await isAccepted(old)).toBe(false);
});

it("at most two credentials are valid: another one replaces one that was not used", async () => {
  await sync(old);
  await request();
  const [first, second] = [newSecret(), newSecret()];
  expect([await propose(old, first), await propose(old, second)]).toEqual([200, 200]);
  expect(await sync(first)).toBe(401);
  expect(await isAccepted(old)).toBe(true);
  expect(await isAccepted(second)).toBe(true);
  // A second rotation starts from the new credential.
  await request();
  const third = newSecret();
  expect(await propose(second, third)).toBe(200);
  expect(await isAccepted(third)).toBe(true);
  expect([await sync(second), await sync(old)]).toEqual([401, 401]);
});

it("nothing is rotated without a request of an operator, or by a copy of the machine", async () => {
  await sync(old);
  expect(await propose(old, newSecret())).toBe(409);
  await request();
  const copied = newSecret();
  const copy = { ...agent, machineId: "m2", bootId: "b2", processId: "p2" };
  // The host has a process that manages it, so a request must name its process.
  for (const other of [copy, { ...agent, processId: "p2" }, null])
    expect(await propose(old, copied, other)).toBe(409);
  expect(await sync(copied)).toBe(401);
  expect((await propose(old, "brt_short")).toString()).toBe("422");
});

it("an agent without an identity rotates the credential of a host that no other manages", async () => {
  await sync(old, {}, null);
  await request();
  expect(await propose(old, newSecret(), null)).toBe(200);
});

it("the rotation of an agent of an earlier release is refused, and changes nothing", async () => {
  expect(await request()).toMatchObject({ status: 409, body: { code: "state-conflict" } });
  await sync(old, { capabilities: { ...capabilities, features: ["init"] } });
  expect(await request()).toMatchObject({ status: 409, body: { code: "state-conflict" } });
  expect((await readHost()).credential.rotationRequestedAt).toBeNull();
});

it("a long poll learns of the request immediately", async () => {
  await sync(old);
  const { hostGeneration } = (await sync(old, { full: false })) as SyncResult;
  const poll = sync(old, { full: false, acceptedGeneration: hostGeneration, waitMs: 20_000 });
  const startedMs = performance.now();
  await new Promise((resolve) => setTimeout(resolve, 500));
  await request();
  expect(await poll).toMatchObject({ rotateCredential: true });
  expect(performance.now() - startedMs).toBeLessThan(15_000);
});

it("authentication waits for no lock of the host: both are valid until it ends (I15)", async () => {
  await sync(old);
  await request();
  const next = newSecret();
  await propose(old, next);
  const path = "/agent/v1/network-state?waitMs=0";
  const read = async (token: string) => (await test.request("GET", path, { token })).status;
  await withTx(test.ctx.db, async (tx) => {
    await tx.execute(sql`select 1 from hosts for update`);
    expect([await read(next), await read(old)]).toEqual([200, 200]);
  });
  expect(await listEvents()).toHaveLength(1);
  expect([await read(next), await read(old)]).toEqual([200, 401]);
});

it("concurrent first uses are all accepted, and rotate once", async () => {
  await sync(old);
  for (let round = 1; round <= 5; round++) {
    await request();
    const next = newSecret();
    await propose(old, next);
    const accepted = await Promise.all(Array.from({ length: 8 }, () => isAccepted(next)));
    expect(accepted).not.toContain(false);
    expect(await listEvents()).toHaveLength(2 * round);
    // A request that has not found the credential before the commit finds it after the commit.
    const anyCredentialHash = hashSecret(next);
    expect(await findHostLease(test.ctx.db, { anyCredentialHash })).toMatchObject({ hostId });
    old = next;
  }
});

it("an agent learns of the deletion of its host with either credential", async () => {
  await sync(old);
  await request();
  const next = newSecret();
  await propose(old, next);
  await test.ctx.db.execute(sql`update hosts set cordoned = true`);
  const path = `/v1/hosts/${hostId}?confirm=${hostId}`;
  expect((await test.request("DELETE", path, { token: test.adminToken })).status).toBe(204);
  expect([await sync(old), await sync(next), await sync(newSecret())]).toEqual([410, 410, 401]);
});
