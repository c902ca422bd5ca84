import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { patchServiceBody, resizeServiceBody } from "../../../src/contracts/api/services.ts";
import { rowsOf } from "../../../src/db/queries/runtime/query.ts";
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
  serviceBody,
} from "../../support/fleet/fleet-context.ts";
import { seededRandom } from "../../support/seeded-random.ts";

let fleet: FleetContext;
afterEach(() => fleet.close());

interface Use {
  tenant: string;
  sets: string;
  cpu: string;
  memory: string;
}

/** What services ask for, added up; and what the trigger has kept. */
async function uses({ ctx }: FleetContext): Promise<{ asked: Use[]; kept: Use[] }> {
  const asked = await rowsOf<Use>(
    ctx.db,
    sql`select tenant_id as tenant, sum(desired_replicas)::text as sets, sum(desired_replicas * set_cpu_millis)::text as cpu,
          sum(desired_replicas * set_memory_bytes)::text as memory
        from services where deleted_at is null and not deleting group by 1 having sum(desired_replicas) > 0 order by 1`,
  );
  const kept = await rowsOf<Use>(
    ctx.db,
    sql`select tenant_id as tenant, sum(sets)::text as sets, sum(cpu_millis)::text as cpu, sum(memory_bytes)::text as memory
        from tenant_uses group by 1 having sum(sets) > 0 order by 1`,
  );
  return { asked, kept };
}

const templateOf = (cpu: number) => ({
  cpu,
  memory: `${cpu}Gi`,
  rootfs: "1Gi",
  containers: [{ index: 0, name: "app", image: "menu:42", options: { cpu: 100, memory: 100 } }],
});

test("what a tenant's services ask for is kept, whatever was done to them by several at once", async () => {
  fleet = await createFleetContext();
  const { ctx } = fleet;
  const other = await createTenant(ctx, {
    name: "other",
    quota: { setsMax: 1_000, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 },
  });
  const tenantIds = [fleet.tenantId, other.id];
  const clients = [ctx, fleet.secondContext(), fleet.secondContext()];
  const random = seededRandom(42);
  const pick = (count: number) => Math.floor(random() * count);
  const names = Array.from({ length: 6 }, (_, index) => `service-${index}`);
  const step = async (): Promise<void> => {
    const client = clients[pick(clients.length)] ?? ctx;
    const tenantId = tenantIds[pick(tenantIds.length)] ?? fleet.tenantId;
    const name = names[pick(names.length)] ?? "service-0";
    const replicas = pick(4);
    const cpu = 1 + pick(3);
    switch (pick(6)) {
      case 0:
      case 1:
        await createService(client, tenantId, serviceBody(name, { replicas }));
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
  const { asked, kept } = await uses(fleet);
  expect(kept).toEqual(asked);
  expect(asked.length).toBeGreaterThan(0);
});

test("of a quota that is nearly used up, those who ask at once get what there is and no more", async () => {
  fleet = await createFleetContext();
  const quota = { setsMax: 7, cpuMillisMax: 1e9, memoryBytesMax: 2 ** 50 };
  const tenant = await createTenant(fleet.ctx, { name: "small", quota });
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
  const tenant = await createTenant(fleet.ctx, { name: "small", quota });
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
