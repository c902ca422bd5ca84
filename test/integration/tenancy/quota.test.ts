import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import {
  createServiceBody,
  patchServiceBody,
  resizeServiceBody,
} from "../../../src/contracts/api/services.ts";
import type { ReportedVolume } from "../../../src/contracts/api/volumes.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { closeServices } from "../../../src/control/services/close-services.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { createTenant } from "../../../src/control/tenancy/create-tenant.ts";
import { deleteService } from "../../../src/control/services/delete-service.ts";
import { getService } from "../../../src/control/services/get-service.ts";
import { patchService } from "../../../src/control/services/patch-service.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { scaleService } from "../../../src/control/services/scale-service.ts";
import {
  createFleetContext,
  type FleetContext,
  observed,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { tenantBody } from "../../support/fleet/tenant-body.ts";

const gib = 2 ** 30;
let fleet: FleetContext;
const trash: ReportedVolume[] = [];
afterEach(() => fleet.close());

const amounts = (count: string, table: string, prefix = "") =>
  ["cpu_millis", "memory_bytes", "volume_bytes", "rootfs_bytes"]
    .map((column) => `sum(${count} * ${table}.${prefix}${column})::text as ${column}`)
    .join(", ");

/** The sums over all services, sets and volumes, and those that triggers maintain. */
async function readUsage({
  ctx,
}: FleetContext): Promise<{ expected: unknown[]; maintained: unknown[] }> {
  const read = (query: string) => queryRows<object>(ctx.db, sql.raw(query));
  const intended =
    await read(`select tenant_id, sum(desired_replicas)::text as sets, ${amounts("desired_replicas", "s", "set_")}
    from services s where deleted_at is null and not deleting group by 1 having sum(desired_replicas) > 0 order by 1`);
  const existing = await read(`select tenant_id, count(*)::text as sets, ${amounts("1", "s")}
    from sets s where deleted_at is null group by 1 order by 1`);
  const trash = await read(`select tenant_id, sum(size_bytes)::text as bytes
    from volumes where state = 'trashed' group by 1 order by 1`);
  const parts = "from tenant_uses u group by 1 having sum";
  return {
    expected: [intended, existing, trash],
    maintained: [
      await read(
        `select tenant_id, sum(sets)::text as sets, ${amounts("1", "u")} ${parts}(sets) > 0 order by 1`,
      ),
      await read(
        `select tenant_id, sum(existing_sets)::text as sets, ${amounts("1", "u", "existing_")} ${parts}(existing_sets) > 0 order by 1`,
      ),
      await read(
        `select tenant_id, sum(trash_bytes)::text as bytes ${parts}(trash_bytes) > 0 order by 1`,
      ),
    ],
  };
}

/**
 * The host's agent runs and removes sets as ordered, and reports the volume of each removed set in
 * the trash.
 */
async function obeyHost(hostId: string): Promise<void> {
  const { sets } = await fleet.sync(hostId, { full: true });
  const tenants = await queryRows<{ name: string; setId: string }>(
    fleet.ctx.db,
    sql`select t.name, s.id as "setId" from sets s join tenants t on t.id = s.tenant_id where s.host_id = ${hostId}`,
  );
  for (const set of sets.filter(({ desired }) => desired === "deleted")) {
    const tenant = tenants.find(({ setId }) => setId === set.setId)?.name;
    if (tenant === undefined) continue;
    trash.push({
      volumeId: set.setId.replace("set_", "vol_"),
      setId: set.setId,
      tenant,
      service: "service-0",
      state: "trashed",
      sizeBytes: gib,
      usedBytes: null,
      trashedAt: "2026-01-01T00:00:00.000Z",
      expiresAt: "2999-01-08T00:00:00.000Z",
      reason: null,
    });
  }
  const volumes = [...new Map(trash.map((volume) => [volume.volumeId, volume])).values()];
  await fleet.sync(hostId, {
    volumes: volumes.slice(-5),
    observed: sets.map((set) => observed(set, set.desired === "deleted" ? "absent" : "running")),
  });
}

const templateOf = (cpu: number, volume?: { size: string; mountPath: string }) => ({
  cpu,
  memory: `${cpu}Gi`,
  rootfs: "1Gi",
  ...(volume ? { volume } : {}),
  containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
});

test("triggers maintain the usage of each tenant while three processes change services and sets", async () => {
  fleet = await createFleetContext();
  const { ctx } = fleet;
  const other = await createTenant(
    ctx,
    tenantBody("other", { setsMax: 1_000, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 }),
  );
  const tenantIds = [fleet.tenantId, other.id];
  const clients = [ctx, fleet.secondContext(), fleet.secondContext()];
  const hostId = await fleet.enroll("h1", {
    allocatable: {
      cpuMillis: 20_000,
      memoryBytes: 20 * gib,
      volumeBytes: 20 * gib,
      rootfsBytes: 100 * gib,
    },
  });
  const random = seededRandom(42);
  const pick = (count: number) => Math.floor(random() * count);
  const names = Array.from({ length: 6 }, (_, index) => `service-${index}`);
  const step = async (): Promise<void> => {
    const client = clients[pick(clients.length)] ?? ctx;
    const tenantId = tenantIds[pick(tenantIds.length)] ?? fleet.tenantId;
    const name = names[pick(names.length)] ?? "service-0";
    const replicas = pick(4);
    const cpu = 1 + pick(3);
    switch (pick(9)) {
      case 0:
      case 1:
        await createService(
          client,
          tenantId,
          createServiceBody.parse({
            name,
            replicas,
            template: templateOf(cpu, { size: "1Gi", mountPath: "/data" }),
          }),
        );
        break;
      case 2:
        await scaleService(client, tenantId, name, { replicas }, undefined);
        break;
      case 3: {
        const { generation } = await getService(client, tenantId, name);
        const patch = patchServiceBody.parse({ template: templateOf(cpu) });
        await patchService(client, tenantId, name, generation, patch);
        break;
      }
      case 4:
        await resizeService(client, tenantId, name, resizeServiceBody.parse({ cpu }), undefined);
        break;
      case 5:
        await fleet.placer.placeSets();
        break;
      case 6:
        await obeyHost(hostId);
        break;
      default:
        await deleteService(client, tenantId, name, undefined);
        await closeServices(client);
    }
  };
  let done = 0;
  for (let round = 0; round < 40; round++) {
    const outcomes = await Promise.allSettled([step(), step(), step()]);
    done += outcomes.filter(({ status }) => status === "fulfilled").length;
  }
  expect(done).toBeGreaterThan(40);
  const { expected, maintained } = await readUsage(fleet);
  expect(maintained).toEqual(expected);
  for (const rows of expected) expect(rows).not.toEqual([]);
  const left = await queryRows(ctx.db, sql`select 1 from tenant_use_changes`);
  expect(left).toEqual([]);
});

test("concurrent requests get the rest of a quota, and no more", async () => {
  fleet = await createFleetContext();
  const quota = { setsMax: 7, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };
  const tenant = await createTenant(fleet.ctx, tenantBody("small", quota));
  const clients = [fleet.ctx, fleet.secondContext()];
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, index) =>
      createService(
        clients[index % 2] ?? fleet.ctx,
        tenant.id,
        serviceBody(`web-${index}`, { replicas: 2 }),
      ),
    ),
  );
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
  for (const outcome of outcomes) {
    if (outcome.status === "rejected")
      expect(outcome.reason).toMatchObject({ code: "quota-exceeded" });
  }
});

test("a change of a template counts once against the quota", async () => {
  fleet = await createFleetContext();
  const quota = { setsMax: 10, cpuMillisMax: 5_000, memoryBytesMax: 2 ** 50 };
  const tenant = await createTenant(fleet.ctx, tenantBody("small", quota));
  await createService(fleet.ctx, tenant.id, serviceBody("web", { replicas: 2 }));
  const change = (generation: number, cpu: number) =>
    patchService(
      fleet.ctx,
      tenant.id,
      "web",
      generation,
      patchServiceBody.parse({ template: templateOf(cpu) }),
    );
  await change(1, 2);
  await expect(change(2, 3)).rejects.toMatchObject({ code: "quota-exceeded" });
});
