import { sql } from "drizzle-orm";
import { queryRows } from "../../../src/db/queries/runtime/query.ts";
import { type FleetContext, observed } from "./fleet-context.ts";

export interface LiveSet {
  id: string;
  /** The name of the host; null: the set is pending. */
  host: string | null;
  desired: string;
  ready: boolean;
}

/** Lists the live sets, oldest first. */
export function listLiveSets({ ctx }: FleetContext): Promise<LiveSet[]> {
  return queryRows(
    ctx.db,
    sql`select s.id, h.name as host, s.desired, s.ready from sets s left join hosts h on h.id = s.host_id
        where s.deleted_at is null order by s.id`,
  );
}

/** Acts as the agent of the host, which brings all its sets into their desired states. */
export async function obeyOrders(f: FleetContext, hostId: string): Promise<void> {
  const { sets } = await f.sync(hostId, { full: true });
  const stateOf = { running: "running", stopped: "stopped", deleted: "absent" } as const;
  await f.sync(hostId, {
    observed: sets.map((set) =>
      observed(set, stateOf[set.desired], { ready: set.desired === "running" }),
    ),
  });
}
