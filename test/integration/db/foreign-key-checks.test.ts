import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { lockServiceById } from "../../../src/db/queries/services/write-services.ts";
import { insertPendingSets, lockHosts } from "../../../src/db/queries/sets/write-sets.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { newIds } from "../../../src/lib/ids.ts";
import {
  createFleetContext,
  type FleetContext,
  serviceBody,
} from "../../support/fleet/fleet-context.ts";

let f: FleetContext;
afterEach(() => f.close());

test.each([1, 50])(
  "the statements after an insertion of %i sets use custom plans",
  async (count) => {
    f = await createFleetContext();
    const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 0 }));
    const { cpuMillis, memoryBytes, rootfsBytes } = service.template;
    const modes = await withTx(f.ctx.db, async (tx) => {
      const sets = { ids: newIds("set", count), tenantId: f.tenantId, serviceId: service.id };
      const size = { cpuMillis, memoryBytes, volumeBytes: 0, rootfsBytes };
      await insertPendingSets(tx, { ...sets, ...size, revision: 1, priority: 100 });
      return queryRows(tx, sql`select current_setting('plan_cache_mode') as mode`);
    });
    expect(modes).toEqual([{ mode: "force_custom_plan" }]);
    const stored = await queryRows(f.ctx.db, sql`select count(*)::int as sets from sets`);
    expect(stored).toEqual([{ sets: count }]);
  },
);

test("rows that refer to a locked service or host are inserted without waiting for the lock", async () => {
  f = await createFleetContext();
  const { service } = await createService(f.ctx, f.tenantId, serviceBody("web", { replicas: 1 }));
  const hostId = await f.enroll("host-1");
  const second = f.secondContext();
  const [set] = await queryRows<{ id: string }>(f.ctx.db, sql`select id from sets`);
  await withTx(f.ctx.db, async (tx) => {
    await lockServiceById(tx, service.id);
    await lockHosts(tx, [hostId]);
    await withTx(second.db, async (other) => {
      await other.execute(sql`set local lock_timeout = '1s'`);
      await other.execute(
        sql`update sets set host_id = ${hostId}, state = 'starting' where id = ${set?.id}`,
      );
      await insertPendingSets(other, {
        ids: newIds("set", 1),
        tenantId: f.tenantId,
        serviceId: service.id,
        revision: 1,
        priority: 100,
        cpuMillis: 1,
        memoryBytes: 1,
        volumeBytes: 0,
        rootfsBytes: 1,
      });
    });
  });
  const stored = await queryRows(
    f.ctx.db,
    sql`select count(*)::int as sets, count(host_id)::int as placed from sets`,
  );
  expect(stored).toEqual([{ sets: 2, placed: 1 }]);
});
