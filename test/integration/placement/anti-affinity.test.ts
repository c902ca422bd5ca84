import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { buildPlacementRequests } from "../../../src/control/placement/placement-requests.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { listDueSets } from "../../../src/db/queries/placement/due-sets.ts";
import { withTx } from "../../../src/db/transaction.ts";
import { serviceBody } from "../../support/fleet/fleet-context.ts";
import { fleetPerTest } from "../../support/fleet/fleet-per-test.ts";
import { rowsReadOf } from "../../support/fleet/rows-read.ts";

/** The anti-affinity rules that a placement reads. */

const start = fleetPerTest();

test("a placement reads only the rules that name its services, and only of services with sets", async () => {
  const f = await start();
  const create = async (name: string, more: object) =>
    (await createService(f.ctx, f.tenantId, serviceBody(name, more))).service.id;
  const rule = { placement: { antiAffinity: ["web"] } };
  const repelling = await create("repelling", rule);
  await f.enroll("h1");
  await f.placer.placeSets();
  await create("empty", { ...rule, replicas: 0 });
  const names = Array.from({ length: 16 }, (_, n) => `other-${n}`);
  await f.ctx.db.execute(
    sql`insert into services select (jsonb_populate_record(s, jsonb_build_object('id', 'svc-' || n, 'name', 'many-' || n,
          'placement', s.placement || ${JSON.stringify({ antiAffinity: names })}::jsonb))).*
        from services s, generate_series(1, 3000) n where s.id = ${repelling}`,
  );
  await f.ctx.db.execute(sql`analyze services`);
  const web = await create("web", {});
  await withTx(f.ctx.db, async (tx) => {
    const [request] = await buildPlacementRequests(tx, await listDueSets(tx, 10));
    expect(request).toMatchObject({ serviceId: web, constraints: { antiAffinity: [repelling] } });
    expect(await rowsReadOf(tx, "services")).toBeLessThan(50);
  });
  expect(await f.placer.placeSets()).toMatchObject({ placed: 0, rejected: 1 });
});
