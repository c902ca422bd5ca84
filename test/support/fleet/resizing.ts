import { sql } from "drizzle-orm";
import { type ResizeService, resizeServiceBody } from "../../../src/contracts/api/services.ts";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { createService } from "../../../src/control/services/create-service.ts";
import { resizeService } from "../../../src/control/services/resize-service.ts";
import { createFleetContext, type FleetContext, observed, serviceBody } from "./fleet-context.ts";

/**
 * Two hosts of 4 cores, and a service "web" of `replicas` sets of a core and a GiB each, spread
 * over them.
 */
export async function startWeb(replicas: number): Promise<FleetContext> {
  const fleet = await createFleetContext();
  await fleet.enroll("h1");
  await fleet.enroll("h2");
  const spread = [{ by: "host" as const, maxSkew: 1 }];
  const body = serviceBody("web", { replicas, placement: { spread } });
  await createService(fleet.ctx, fleet.tenantId, body);
  await fleet.placer.placeSets();
  return fleet;
}

/** Resizes the service "web". */
export function resize(f: FleetContext, body: Parameters<typeof resizeServiceBody.parse>[0]) {
  const parsed: ResizeService = resizeServiceBody.parse(body);
  return resizeService(f.ctx, f.tenantId, "web", parsed, undefined);
}

/** Reads the booked amounts of each host, and the sums of its sets. */
export async function bookings({ ctx }: FleetContext) {
  return queryRows<{ name: string; cpu: number; memory: number; booked: number }>(
    ctx.db,
    sql`select h.name, h.allocated_cpu_millis::float8 as cpu, h.allocated_memory_bytes::float8 as memory,
          (select coalesce(sum(cpu_millis), 0) from sets where host_id = h.id)::float8 as booked
        from hosts h order by h.name`,
  );
}

/** Acts as the agent of the host for all its desired sets. */
export async function obey(f: FleetContext, hostId: string): Promise<void> {
  const { sets } = await f.sync(hostId, { full: true });
  await f.sync(hostId, {
    observed: sets.map((set) => observed(set, set.desired === "deleted" ? "absent" : "running")),
  });
}

/** Host ids by name. */
export async function hostIds({ ctx }: FleetContext): Promise<string[]> {
  const rows = await queryRows<{ id: string }>(ctx.db, sql`select id from hosts order by name`);
  return rows.map(({ id }) => id);
}
