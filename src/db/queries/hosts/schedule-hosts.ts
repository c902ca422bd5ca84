import { and, eq, sql } from "drizzle-orm";
import type { Queryable } from "../../postgres/open-postgres.ts";
import { hosts } from "../../schema/hosts.ts";
import { queryRows } from "../runtime/query.ts";

/** Stores whether a host is cordoned and draining. Returns undefined if it does not exist. */
export async function updateHostScheduling(
  q: Queryable,
  hostId: string,
  admission: { cordoned: boolean; draining: boolean },
): Promise<{ name: string; changed: boolean } | undefined> {
  const rows = await queryRows<{ name: string; changed: boolean }>(
    q,
    sql`with before as (select id, name, cordoned, draining from hosts where id = ${hostId} for no key update)
        update hosts h set cordoned = ${admission.cordoned}, draining = ${admission.draining} from before b
        where h.id = b.id
        returning b.name, (b.cordoned <> ${admission.cordoned} or b.draining <> ${admission.draining}) as changed`,
  );
  return rows[0];
}

/**
 * Stores labels, taints and the group of gateways. Omitted members do not change. Each change
 * increments the generation, so that only one of two writers with the same generation succeeds.
 * Returns false if no host has this id and generation.
 */
export async function updateHostLabels(
  q: Queryable,
  hostId: string,
  generation: number | undefined,
  change: {
    labels?: Record<string, string> | undefined;
    taints?: { key: string; value: string }[] | undefined;
    gatewayGroup?: string | null | undefined;
  },
): Promise<boolean> {
  const rows = await q
    .update(hosts)
    .set({ ...change, generation: sql`${hosts.generation} + 1` })
    .where(
      and(
        eq(hosts.id, hostId),
        generation === undefined ? undefined : eq(hosts.generation, generation),
      ),
    )
    .returning({ id: hosts.id });
  return rows.length === 1;
}
