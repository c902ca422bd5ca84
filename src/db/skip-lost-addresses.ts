import { sql } from "drizzle-orm";
import type { PostgresJsDatabase } from "drizzle-orm/postgres-js";
import { VNI_MIN } from "../contracts/api/networks.ts";
import { noteAllAddressesUnknown } from "./queries/networks/unknown-addresses.ts";
import { VNI_MAX } from "../contracts/network-driver/network-state.ts";

/**
 * The part of a subnet that a restore skips: the golden ratio. However often it is repeated, the
 * positions are far apart. Half would lead back to the first one.
 */
const SKIPPED_PART = 0.618;
const VNIS_SKIPPED = 1_000_000;

/**
 * Requests the addresses of all hosts, after a restore: agents still run sets that the database
 * lacks. Until they have reported, Berth assigns no address.
 *
 * It also moves the searches for free addresses and for VNIs of networks far ahead. Berth takes
 * both in order. So the next ones would be exactly those of lost hosts and lost networks, which do
 * not report. It is safe to repeat.
 */
export async function skipLostAddresses(db: PostgresJsDatabase): Promise<void> {
  await noteAllAddressesUnknown(db);
  await db.execute(
    sql`with spans as (
          select s.id, s.last_offset, s.usable, r.first, r.last,
            sum(r.last - r.first + 1) over (partition by s.id order by r.first) - (r.last - r.first + 1) as before
          from subnets s cross join lateral (
            select (each->>0)::bigint as first, (each->>1)::bigint as last from jsonb_array_elements(s.ranges) each) r
        ), targets as (
          select id, mod(sum(greatest(0, least(last, last_offset) - first + 1)) + floor(usable * ${SKIPPED_PART}::numeric), usable) as target
          from spans group by id, usable
        )
        update subnets s set last_offset = p.first + t.target - p.before
        from targets t join spans p on p.id = t.id and t.target >= p.before and t.target <= p.before + p.last - p.first
        where s.id = t.id`,
  );
  const vnis = VNI_MAX - VNI_MIN + 1;
  await db.execute(
    sql`select setval('network_vnis', ${VNI_MIN}::bigint
          + mod(last_value - ${VNI_MIN}::bigint + ${VNIS_SKIPPED}::bigint, ${vnis}::bigint)) from network_vnis`,
  );
}
