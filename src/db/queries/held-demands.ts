import { sql } from "drizzle-orm";
import type { Queryable } from "../client.ts";
import { rowsOf } from "./rows.ts";

export interface HeldDemandRow {
  key: string;
  hook: string;
  state: "firing" | "resolved";
  wantedReplicas: number;
  alertName: string | null;
  startedAt: string | Date;
}

/** Demands of a service that are not released, largest first. Uses demands_held. */
export async function listHeldDemands(q: Queryable, serviceId: string): Promise<HeldDemandRow[]> {
  return rowsOf(
    q,
    sql`select d.key, h.name as hook, d.state, d.wanted_replicas as "wantedReplicas", d.labels->>'alertname' as "alertName",
          d.started_at as "startedAt"
        from demands d join hooks h on h.id = d.hook_id
        where d.service_id = ${serviceId} and d.state <> 'released'
        order by d.wanted_replicas desc, d.id limit 1000`,
  );
}
