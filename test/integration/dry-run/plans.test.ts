import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { createServicePlanner } from "../../../src/control/dry-run/plan-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { obey } from "../../support/fleet/resizing.ts";
import { cpuMsSince, measureReferenceCpuMs } from "../../support/cpu-speed.ts";

const start = fleetPerTest();

test("a dry run shows the hosts of sets and the reasons of pending sets, and commits nothing", async () => {
  const f = await start();
  await f.enroll("h1");
  const plan = await createServicePlanner(f.ctx).plan(f.tenantId, {
    kind: "create",
    service: serviceBody("web", { replicas: 6 }),
  });
  expect(plan).toMatchObject({
    placed: 4,
    rejected: 2,
    removed: 0,
    reasons: [{ reason: "insufficient-cpu", hosts: 1 }],
  });
  expect(plan.hosts).toMatchObject([{ hostName: "h1", sets: 4 }]);
  const sets = await queryRows(f.ctx.db, sql`select id from sets`);
  expect(sets).toEqual([]);
});

test("dry runs share one current snapshot of the fleet, and wait for no row locks", async () => {
  const f = await start();
  await f.enroll("h1");
  const planner = createServicePlanner(f.ctx);
  const scale = (replicas: number) =>
    planner.plan(f.tenantId, { kind: "scale", service: "web", replicas });
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 1 }));
  await f.placer.placeSets();
  expect(await scale(5)).toMatchObject({ placed: 3, rejected: 1 });
  await f.enroll("h2");
  await createService(f.ctx, f.tenantId, serviceBody("other", { replicas: 2 }));
  await f.placer.placeSets();
  expect(await scale(8)).toMatchObject({ placed: 5, rejected: 2 });
  await f.ctx.db.transaction(async (tx) => {
    await tx.execute(sql`select id from services where name = 'web' for update`);
    await tx.execute(sql`select id from hosts order by id for update`);
    const plans = await Promise.all([scale(2), scale(3), scale(0)]);
    expect(plans.map(({ placed, removed }) => [placed, removed])).toEqual([
      [1, 0],
      [2, 0],
      [0, 1],
    ]);
  });
});

test("a dry run of a manifest for an existing service plans the added sets with the new template", async () => {
  const f = await start();
  await f.enroll("h1");
  const planner = createServicePlanner(f.ctx);
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 1 }));
  await f.placer.placeSets();
  const large = serviceBody("web", { replicas: 3 });
  const service = { ...large, template: { ...large.template, cpuMillis: 2_000 } };
  expect(await planner.plan(f.tenantId, { kind: "apply", service })).toMatchObject({
    placed: 1,
    rejected: 1,
  });
  const fresh = { ...service, name: "fresh" };
  expect(await planner.plan(f.tenantId, { kind: "apply", service: fresh })).toMatchObject({
    placed: 1,
    rejected: 2,
  });
});

test("a dry run is refused where the real request exceeds the quota or lacks a grant", async () => {
  const f = await start();
  await f.enroll("h1");
  const { id: tenantId } = await createTenant(f.ctx, tenantBody("small", { setsMax: 2 }));
  const planner = createServicePlanner(f.ctx);
  const exceeded = { code: "quota-exceeded" };
  const create = (replicas: number, more: object = {}) =>
    planner.plan(tenantId, {
      kind: "create",
      service: serviceBody("web", { replicas, ...more }),
    });
  await expect(create(3)).rejects.toMatchObject(exceeded);
  await expect(create(1, { placement: { pool: "gpu" } })).rejects.toMatchObject({
    code: "grant-missing",
  });
  expect(await create(2)).toMatchObject({ placed: 2 });
  await createService(f.ctx, tenantId, serviceBody("web", { replicas: 2 }));
  await expect(
    planner.plan(tenantId, { kind: "scale", service: "web", replicas: 3 }),
  ).rejects.toMatchObject(exceeded);
  const apply = (replicas: number) =>
    planner.plan(tenantId, { kind: "apply", service: serviceBody("web", { replicas }) });
  await expect(apply(3)).rejects.toMatchObject(exceeded);
  expect(await apply(1)).toMatchObject({ removed: 1 });
});

test("a scale-in keeps sets spread over zones, and a dry run names the sets that it removes", async () => {
  const f = await start();
  const zones = ["zone-a", "zone-b", "zone-c"];
  const hosts = await Promise.all(zones.map((zone, i) => f.enroll(`h${i}`, { zone })));
  const placement = { spread: [{ by: "zone" as const, maxSkew: 1 }] };
  await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 6, placement }));
  await f.placer.placeSets();
  for (const host of hosts) await obey(f, host);
  // Both sets of zone-c are the newest.
  await f.ctx.db.execute(sql`
    update sets s set created_at = now() - make_interval(secs => case h.zone when 'zone-c' then 1 else 60 end)
    from hosts h where h.id = s.host_id`);
  const planner = createServicePlanner(f.ctx);
  const plan = await planner.plan(f.tenantId, { kind: "scale", service: "web", replicas: 4 });
  expect(plan).toMatchObject({ placed: 0, removed: 2 });
  expect(plan.removals.map(({ reason }) => reason)).toEqual(["spread", "spread"]);
  expect(plan.removals[0]?.hostName).toBe("h2");
  expect(plan.removals[1]?.hostName).not.toBe("h2");
  for (const { setId } of plan.removals) expect(plan.text).toContain(setId);
  await scaleService(f.ctx, f.tenantId, "web", { replicas: 4 }, undefined);
  const removed = await queryRows<{ id: string }>(
    f.ctx.db,
    sql`select id from sets where desired = 'deleted' order by id`,
  );
  expect(removed.map(({ id }) => id)).toEqual(plan.removals.map(({ setId }) => setId).sort());
});

test("anti-affinity applies in both directions: a placed service also excludes others from its hosts", async () => {
  const f = await start();
  await f.enroll("h1");
  const alone = { antiAffinity: ["db"] };
  await createService(f.ctx, f.tenantId, serviceBody("web", { placement: alone }));
  await f.placer.placeSets();
  await createService(f.ctx, f.tenantId, serviceBody("db"));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
  const planner = createServicePlanner(f.ctx);
  const dry = await planner.plan(f.tenantId, { kind: "scale", service: "db", replicas: 2 });
  expect(dry.reasons).toEqual([{ reason: "anti-affinity", hosts: 1 }]);
  await createService(f.ctx, f.tenantId, serviceBody("cache"));
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
  await f.enroll("h2");
  expect(await f.placer.placeSets()).toMatchObject({ placed: 1 });
});

test("a changed priority of a service applies to its pending sets", async () => {
  const f = await start();
  await createService(f.ctx, f.tenantId, serviceBody("first", { replicas: 4 }));
  await createService(f.ctx, f.tenantId, serviceBody("urgent", { replicas: 4 }));
  const change = await patchService(f.ctx, f.tenantId, "urgent", 1, { priority: 900 });
  expect(change.effects.join(" ")).toContain("new priority");
  await f.enroll("h1");
  await f.placer.placeSets();
  const placed = await queryRows<{ name: string; count: number }>(
    f.ctx.db,
    sql`select v.name, count(*)::int as count from sets s join services v on v.id = s.service_id
        where s.host_id is not null group by v.name`,
  );
  expect(placed).toEqual([{ name: "urgent", count: 4 }]);
});

test(
  "a thousand services that fit on no host do not delay other services",
  { timeout: 300_000 },
  async () => {
    const f = await start();
    await f.enroll("h1");
    await f.ctx.db.execute(sql`
    insert into hosts (id, name, pool, zone, rack, labels, taints, state, agent_version, credential_hash, lease_expires_at, reported_at,
      allocatable_cpu_millis, allocatable_memory_bytes, allocatable_volume_bytes, allocatable_rootfs_bytes, allocated_cpu_millis)
    select 'host_full' || n, 'full-' || n, 'default', 'z' || n % 3, 'r1', '{}', '[]', 'ready', 'test', 'none' || n, now() + interval '1 hour',
      now(), 4000, 1e10, 0, 1e12, 4000
    from generate_series(1, 5000) n`);
    const { template, placement } = serviceBody("full");
    await f.ctx.db.execute(sql`
    with made as (
      insert into services (id, tenant_id, name, replicas, desired_replicas, priority, placement, on_host_lost,
        set_cpu_millis, set_memory_bytes)
      select 'svc_full' || n, ${f.tenantId}, 'full-' || n, 4, 4, 100 + n % 7, ${JSON.stringify(placement)}::jsonb, 'replace',
        1000, 1000
      from generate_series(1, 1000) n returning id
    ), written as (
      insert into revisions (service_id, number, template) select id, 1, ${JSON.stringify(template)}::jsonb from made
    )
    insert into sets (id, tenant_id, service_id, revision, priority, cpu_millis, memory_bytes, volume_bytes, rootfs_bytes)
    select 'set_' || made.id || '_' || k, ${f.tenantId}, made.id, 1, 100, 5000 + length(made.id), 1000, 0, 1000
    from made, generate_series(1, 4) k`);
    await createService(f.ctx, f.tenantId, serviceBody("small", { priority: 1 }));
    const before = process.cpuUsage();
    const { placed, rejected } = await f.placer.placeSets();
    expect([placed, rejected >= 4_000]).toEqual([1, true]);
    const cpuMs = cpuMsSince(before);
    expect(cpuMs).toBeLessThan(20 * measureReferenceCpuMs());
  },
);

test("the waiting dry runs of one tenant do not block other tenants", async () => {
  const f = await start();
  await f.enroll("h1");
  const other = await createTenant(f.ctx, tenantBody("other"));
  const planner = createServicePlanner(f.ctx);
  const plan = (tenantId: string) =>
    planner.plan(tenantId, { kind: "create", service: serviceBody("web") });
  const [theirs, ...mine] = await Promise.allSettled([
    ...Array.from({ length: 16 }, () => plan(f.tenantId)),
    plan(other.id),
  ]).then((results) => results.toReversed());
  expect(theirs).toMatchObject({ status: "fulfilled", value: { placed: 1 } });
  const codes = mine.flatMap((result) =>
    result.status === "rejected" ? (result.reason as { code: string }).code : [],
  );
  expect(codes).toEqual(Array.from({ length: 8 }, () => "rate-limited"));
});

test("a capability that the operator does not permit is refused, in a dry run too", async () => {
  const f = await start();
  await f.enroll("h1");
  await f.ctx.db.execute(sql`update hosts set capabilities = '{"features": ["cap-add"]}'`);
  const withCapability = (capability: "CHOWN" | "SYS_ADMIN") =>
    serviceBody(capability.toLowerCase().replace("_", "-"), {
      template: {
        cpu: 1,
        memory: "64Mi",
        containers: [
          {
            index: 0,
            name: "app",
            image: "menu:42",
            options: { cpu: 100, memory: 100, capAdd: [capability] },
          },
        ],
      },
    });
  const planner = createServicePlanner(f.ctx);
  const plan = (kind: "create" | "apply", service: ReturnType<typeof serviceBody>) =>
    planner.plan(f.tenantId, { kind, service });
  const refused = { code: "unsupported" };
  const [allowed, denied] = [withCapability("CHOWN"), withCapability("SYS_ADMIN")];
  await expect(plan("create", denied)).rejects.toMatchObject(refused);
  await expect(plan("apply", denied)).rejects.toMatchObject(refused);
  await expect(createService(f.ctx, f.tenantId, denied)).rejects.toMatchObject(refused);
  expect(await plan("create", allowed)).toMatchObject({ placed: 1 });
  await createService(f.ctx, f.tenantId, allowed);
  const patch = { template: denied.template };
  await expect(patchService(f.ctx, f.tenantId, "chown", 1, patch)).rejects.toMatchObject(refused);
  f.ctx.settings = { ...f.ctx.settings, capabilitiesAllowed: ["SYS_ADMIN"] };
  expect(await plan("create", denied)).toMatchObject({ placed: 1 });
});
