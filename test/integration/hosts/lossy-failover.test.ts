import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { getHost } from "../../../src/control/hosts/get-host.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { assert } from "../../../src/lib/assert.ts";
import {
  createTestApi,
  emptySync,
  enrollTestHost,
  type TestApi,
} from "../../support/api/test-api.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { runningContainer } from "../../support/fleet/running-container.ts";

let fleet: FleetContext | undefined;
let api: TestApi | undefined;

afterEach(async () => {
  await fleet?.close();
  await api?.close();
  fleet = undefined;
  api = undefined;
});

test("the host continues after the changes that its agent accepted, even if a failover lost some of them", async () => {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const before = await f.sync(hostId, { full: true });
  const [known] = before.sets;
  // The agent accepted three more changes, which the database has lost.
  const acceptedGeneration = before.hostGeneration + 3;
  const after = await f.sync(hostId, { acceptedGeneration });
  expect(after.full).toBe(true);
  expect(after.hostGeneration).toBeGreaterThan(acceptedGeneration);
  expect(after.sets.map(({ setId }) => setId)).toEqual([known?.setId]);
  // Each lost change raised the set's generation by one at most.
  expect(after.sets[0]?.generation).toBeGreaterThanOrEqual((known?.generation ?? 0) + 3);
  await f.sync(hostId, {
    acceptedGeneration: after.hostGeneration,
    observed: after.sets.map((set) => observed(set, "running")),
  });
  const sets = await queryRows(f.ctx.db, sql`select state, ready from sets`);
  expect(sets).toEqual([{ state: "running", ready: true }]);
  const events = await queryRows(
    f.ctx.db,
    sql`select host_id from events where kind = 'host-ahead'`,
  );
  expect(events).toHaveLength(1);
});

test("a lead that no failover explains is refused with one event, and changes no generation", async () => {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  await f.placer.placeSets();
  const before = await f.sync(hostId, { full: true });
  const countEvents = async () =>
    (await queryRows(f.ctx.db, sql`select 1 from events where kind = 'host-ahead'`)).length;
  const corrupt = { acceptedGeneration: Number.MAX_SAFE_INTEGER };
  for (let count = 0; count < 2; count++)
    await expect(f.sync(hostId, corrupt)).rejects.toMatchObject({ code: "invalid-request" });
  expect(await countEvents()).toBe(1);
  const tooFar = { acceptedGeneration: before.hostGeneration + 1_000_001 };
  await expect(f.sync(hostId, tooFar)).rejects.toMatchObject({ code: "invalid-request" });

  // The operator resets the agent, which then gets the same generations as before.
  const after = await f.sync(hostId, { acceptedGeneration: 0, full: true });
  expect(after.hostGeneration).toBe(before.hostGeneration);
  expect(after.sets).toEqual(before.sets);
  // The next renewal of the lease stores the generation that the agent has accepted.
  await f.ctx.db.execute(sql`update hosts set lease_expires_at = now() + interval '9 seconds'`);
  await f.sync(hostId, { acceptedGeneration: after.hostGeneration });
  await expect(f.sync(hostId, corrupt)).rejects.toMatchObject({ code: "invalid-request" });
  expect(await countEvents()).toBe(2);
  const far = { acceptedGeneration: before.hostGeneration + 1_000_000 };
  expect((await f.sync(hostId, far)).hostGeneration).toBe(far.acceptedGeneration + 1);
});

test("a host with a refused generation shows the reason until its next accepted sync", async () => {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1");
  const corrupt = { acceptedGeneration: 9_000_000 };
  const readHost = async () => {
    const { state, reason } = await getHost(f.ctx, hostId);
    return { state, code: reason?.code };
  };
  for (let round = 1; round <= 2; round++) {
    for (let repeat = 0; repeat < 2; repeat++)
      await expect(f.sync(hostId, corrupt)).rejects.toMatchObject({ code: "invalid-request" });
    expect(await readHost()).toEqual({ state: "ready", code: "generation-refused" });
    const events = await queryRows(f.ctx.db, sql`select 1 from events where kind = 'host-ahead'`);
    expect(events).toHaveLength(round);
    await f.sync(hostId, { acceptedGeneration: 0, full: true });
    expect(await readHost()).toEqual({ state: "ready", code: undefined });
  }

  // The reason of a lost host stays.
  const expired = { code: "lease-expired", text: "The lease expired." };
  await f.ctx.db.execute(
    sql`update hosts set state = 'lost', resync_required = true, reason = ${JSON.stringify(expired)}::jsonb`,
  );
  await expect(f.sync(hostId, corrupt)).rejects.toMatchObject({ code: "invalid-request" });
  expect(await readHost()).toEqual({ state: "lost", code: "lease-expired" });
  await f.sync(hostId, { full: true });
  await expect(f.sync(hostId, corrupt)).rejects.toMatchObject({ code: "invalid-request" });
  expect(await readHost()).toEqual({ state: "ready", code: "generation-refused" });
});

test("each answer names the database server, so that agents repeat reports that a failover lost", async () => {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1");
  const [server] = await queryRows<{ epoch: string }>(
    f.ctx.db,
    sql`select extract(epoch from pg_postmaster_start_time())::text as epoch`,
  );
  for (const report of [{}, { full: true }, { observed: [] }, { images: ["app:1"] }])
    expect((await f.sync(hostId, report)).databaseEpoch).toBe(server?.epoch);
});

test("a repeated report writes and signals only the sets that changed", async () => {
  const f = await createFleetContext();
  fleet = f;
  const hostId = await f.enroll("h1");
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 3 }));
  await f.placer.placeSets();
  const { sets, hostGeneration } = await f.sync(hostId, { full: true });
  const [same, warned, retried] = sets;
  assert(same && warned && retried, "the host has three sets");
  const report = { acceptedGeneration: hostGeneration, images: ["app:1"] };
  const running = sets.map((set) => observed(set, "running", { containers: [runningContainer()] }));
  await f.sync(hostId, { ...report, observed: running });
  const versions = async () => {
    const rows = await queryRows<{ id: string; version: string }>(
      f.ctx.db,
      sql`select id, concat(xmin, ' ', updated_at) as version from sets`,
    );
    return new Map(rows.map(({ id, version }) => [id, version]));
  };
  const countEvents = async () => (await queryRows(f.ctx.db, sql`select 1 from events`)).length;
  const before = { versions: await versions(), events: await countEvents() };

  // Another database server answers: the agent repeats all its reports.
  f.signals.splice(0);
  await f.sync(hostId, { ...report, observed: running });
  expect(await versions()).toEqual(before.versions);
  expect(await countEvents()).toBe(before.events);
  expect(f.signals).toEqual([]);

  // One report differs. The equal report of another set still resets its failed attempts.
  await f.ctx.db.execute(sql`update sets set attempts = 2 where id = ${retried.setId}`);
  const reason = { code: "container-exited", text: "The container exited." };
  const changed = running.map((set) => (set.setId === warned.setId ? { ...set, reason } : set));
  await f.sync(hostId, { ...report, observed: changed });
  const after = await versions();
  expect(after.get(same.setId)).toBe(before.versions.get(same.setId));
  const stored = await queryRows(
    f.ctx.db,
    sql`select id, attempts, reason from sets where id <> ${same.setId}`,
  );
  expect(stored).toContainEqual({ id: warned.setId, attempts: 0, reason });
  expect(stored).toContainEqual({ id: retried.setId, attempts: 0, reason: null });
  const ofSets = f.signals.filter((channel) => channel.startsWith("set:"));
  expect(ofSets.toSorted()).toEqual([`set:${retried.setId}`, `set:${warned.setId}`].toSorted());
});

test("a sync with a part that Berth rejects renews the lease all the same", async () => {
  api = await createTestApi();
  const { ctx } = api;
  const { hostId, credential } = await enrollTestHost(api, "h1");
  await ctx.db.execute(
    sql`update hosts set lease_expires_at = now() + interval '5 seconds' where id = ${hostId}`,
  );
  const response = await api.request("POST", "/agent/v1/sync", {
    token: credential,
    body: { ...emptySync, observed: [{ setId: "odd" }] },
  });
  expect(response.status).toBe(422);
  const [row] = await queryRows<{ seconds: number }>(
    ctx.db,
    sql`select extract(epoch from lease_expires_at - now())::float8 as seconds from hosts where id = ${hostId}`,
  );
  expect(row?.seconds).toBeGreaterThan(30);
});
