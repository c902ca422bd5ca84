import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { createServiceBody } from "../../../src/contracts/api/services.ts";
import type { ReportedVolume } from "../../../src/contracts/api/volumes.ts";
import { deleteHost } from "../../../src/control/hosts/delete-host.ts";
import { replaceSetsOfLostHosts } from "../../../src/control/hosts/replace-sets-of-lost-hosts.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { newId } from "../../../src/lib/ids.ts";
import { expectCatalogTexts } from "../../support/fleet/expect-catalog-texts.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
  smallHost,
} from "../../support/fleet/fleet-context.ts";

const gib = 2 ** 30;
const template = {
  cpu: 1,
  memory: "1Gi",
  rootfs: "1Gi",
  volume: { size: "1Gi", mountPath: "/data" },
  containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
};
type Service = Parameters<typeof serviceBody>[1];

let fleet: FleetContext | undefined;

afterEach(async () => {
  if (fleet) await expectCatalogTexts(fleet.ctx.db);
  await fleet?.close();
  fleet = undefined;
});

interface DatabaseFleet {
  f: FleetContext;
  /** The host of the only set of service `db`, which runs and has reported its volume. */
  hostId: string;
  setId: string;
}

/** Three hosts, one of which runs the only set of a service that has a volume. */
async function startDatabase(more: Service = {}, hasRun = true): Promise<DatabaseFleet> {
  const f = await createFleetContext({ hostLostGraceMs: 0 });
  fleet = f;
  const allocatable = { ...smallHost, volumeBytes: 100 * gib };
  for (const name of ["h1", "h2", "h3"]) await f.enroll(name, { allocatable });
  await createService(f.ctx, f.tenantId, serviceBody("db", { template, ...more }));
  await f.placer.placeSets();
  const [set] = await sets(f);
  const hostId = set?.hostId ?? "";
  if (hasRun) await reportRunning(f, hostId);
  return { f, hostId, setId: set?.id ?? "" };
}

async function reportRunning(f: FleetContext, hostId: string): Promise<void> {
  const { sets: desired, hostGeneration } = await f.sync(hostId, { full: true });
  const running = desired.filter((set) => set.desired === "running");
  await f.sync(hostId, {
    acceptedGeneration: hostGeneration,
    observed: running.map((set) => observed(set, "running")),
    volumes: running.map((set): ReportedVolume => ({
      volumeId: newId("vol"),
      setId: set.setId,
      tenant: "food",
      service: "db",
      state: "live",
      sizeBytes: gib,
      usedBytes: 1,
      trashedAt: null,
      expiresAt: null,
      reason: null,
    })),
  });
}

async function sets(f: FleetContext) {
  return queryRows<{
    id: string;
    hostId: string | null;
    state: string;
    desired: string;
    reason: { code: string; text: string } | null;
  }>(
    f.ctx.db,
    sql`select id, host_id as "hostId", state, desired, reason from sets where deleted_at is null order by id`,
  );
}

async function expireLease(f: FleetContext, hostId: string): Promise<void> {
  await f.ctx.db.execute(
    sql`update hosts set lease_expires_at = now() - interval '1 second' where id = ${hostId}`,
  );
}

/** Reports that Docker does not answer, and lets the grace period of an unhealthy host pass. */
async function hangDocker(f: FleetContext, hostId: string): Promise<void> {
  await f.sync(hostId, { docker: { state: "unreachable", detail: "connection refused" } });
  await f.ctx.db.execute(
    sql`update hosts set lost_at = now() - interval '10 minutes' where id = ${hostId}`,
  );
}

async function countEvents(f: FleetContext, kind: string): Promise<number> {
  const rows = await queryRows<{ count: number }>(
    f.ctx.db,
    sql`select count(*)::int as count from events where kind = ${kind}`,
  );
  return rows[0]?.count ?? 0;
}

test("I13: a set with a volume waits for its lost host, and one event reports it", async () => {
  const { f, hostId, setId } = await startDatabase();
  await expireLease(f, hostId);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ lost: 1, replacedSets: 0 });
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 0 });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0 });
  expect(await sets(f)).toMatchObject([
    { id: setId, hostId, state: "lost", desired: "running", reason: { code: "volume-host-lost" } },
  ]);
  expect(await countEvents(f, "set-held")).toBe(1);
});

test("I13: a waiting set keeps running with its volume when its host returns", async () => {
  const { f, hostId, setId } = await startDatabase();
  await expireLease(f, hostId);
  await replaceSetsOfLostHosts(f.ctx);
  await replaceSetsOfLostHosts(f.ctx);
  const back = await f.sync(hostId);
  expect(back.sets).toMatchObject([{ setId, desired: "running" }]);
  expect(back.reportAgain).toEqual([setId]);
  await f.sync(hostId, {
    acceptedGeneration: back.hostGeneration,
    observed: back.sets.map((set) => observed(set, "running")),
  });
  expect(await sets(f)).toMatchObject([{ id: setId, hostId, state: "running", reason: null }]);
});

test("I13: a set with a volume waits for a host whose Docker daemon hangs", async () => {
  const { f, hostId, setId } = await startDatabase();
  await hangDocker(f, hostId);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 0 });
  expect(await sets(f)).toMatchObject([
    { id: setId, hostId, desired: "running", reason: { code: "volume-host-lost" } },
  ]);
  const answer = await f.sync(hostId);
  expect(answer.reportAgain).toEqual([setId]);
});

test("I13: a volume that its host has not reported yet counts as well", async () => {
  const { f, hostId, setId } = await startDatabase({}, false);
  const { hostGeneration } = await f.sync(hostId, { full: true });
  await f.ctx.db.execute(
    sql`update hosts set accepted_generation = ${hostGeneration} where id = ${hostId}`,
  );
  await expireLease(f, hostId);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 0 });
  expect(await sets(f)).toMatchObject([{ id: setId, hostId, desired: "running" }]);
});

test("a set whose agent never accepted it has no data, and is replaced", async () => {
  const { f, hostId } = await startDatabase({}, false);
  await setPolicy(f, "replace");
  await expireLease(f, hostId);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 1 });
});

/** The row of a release that did not distinguish sets with a volume. */
async function setPolicy(f: FleetContext, policy: string): Promise<void> {
  await f.ctx.db.execute(sql`update services set on_host_lost = ${policy}`);
}

test("I13: the stored policy `replace` names no loss, so a set with a volume waits", async () => {
  const { f, hostId } = await startDatabase();
  await setPolicy(f, "replace");
  await expireLease(f, hostId);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 0 });
});

test("I13: the policy `replace-without-data` replaces a set with a volume", async () => {
  const { f, hostId, setId } = await startDatabase({ onHostLost: "replace-without-data" });
  await expireLease(f, hostId);
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 1 });
  expect(await sets(f)).toMatchObject([
    { id: setId, hostId, desired: "deleted" },
    { hostId: null, state: "pending" },
  ]);
});

test("a policy that is changed while the host is lost takes effect", async () => {
  const { f, hostId } = await startDatabase();
  await expireLease(f, hostId);
  await replaceSetsOfLostHosts(f.ctx);
  const change = await patchService(f.ctx, f.tenantId, "db", 1, {
    onHostLost: "replace-without-data",
  });
  expect(change.effects.join(" ")).toContain("empty volume");
  expect(await replaceSetsOfLostHosts(f.ctx)).toMatchObject({ replacedSets: 1 });
});

test("the operator who deletes the lost host decides for the set", async () => {
  const { f, hostId } = await startDatabase();
  await expireLease(f, hostId);
  await replaceSetsOfLostHosts(f.ctx);
  await deleteHost(f.ctx, hostId, { confirm: hostId });
  expect(await sets(f)).toMatchObject([{ hostId: null, state: "pending" }]);
});

test("the default policy is `wait` for a template with a volume, and `replace` for others", async () => {
  const { f } = await startDatabase();
  expect((await getService(f.ctx, f.tenantId, "db")).onHostLost).toBe("wait");
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  expect((await getService(f.ctx, f.tenantId, "web")).onHostLost).toBe("replace");
});

test("`replace` with a volume is invalid, in a new service and in a change", async () => {
  const parsed = createServiceBody.safeParse({ name: "db", template, onHostLost: "replace" });
  expect(parsed.error?.issues).toMatchObject([{ path: ["onHostLost"] }]);
  const { f } = await startDatabase();
  await expect(
    patchService(f.ctx, f.tenantId, "db", 1, { onHostLost: "replace" }),
  ).rejects.toMatchObject({ code: "invalid-request" });
});

test("a service that gets a volume has the policy `wait`, and the effects of the change show it", async () => {
  const { f } = await startDatabase();
  await createService(f.ctx, f.tenantId, serviceBody("web"));
  const change = await patchService(f.ctx, f.tenantId, "web", 1, {
    template: serviceBody("web", { template }).template,
  });
  expect(change.service.onHostLost).toBe("wait");
  expect(change.effects.join(" ")).toContain("onHostLost");
});
