import { sql } from "drizzle-orm";
import { afterEach, expect, test } from "vitest";
import { createService } from "../../../src/control/services/create-service.ts";
import { insertPendingSets } from "../../../src/db/queries/sets/write-sets.ts";
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
