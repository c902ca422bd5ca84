import type postgres from "postgres";

export interface PlacementCensus {
  /** Live sets, by state. */
  states: Record<string, number>;
  /** Sets that were placed more than once. */
  placedTwice: number;
  /**
   * Hosts whose bookings differ from the sums of their sets, or exceed their capacity. A report
   * may count the overhead of a removed set until the next one.
   */
  wronglyBooked: number;
  outbox: number;
}

/** Reads the states and bookings of all sets. Each test that kills a process uses it. */
export async function takeCensus(sql: postgres.Sql): Promise<PlacementCensus> {
  return await sql.begin("isolation level repeatable read", async (tx) => {
    const states = await tx<{ state: string; count: number }[]>`
      select state, count(*)::int as count from sets where deleted_at is null group by state`;
    const [twice] = await tx<{ count: number }[]>`
      select count(*)::int as count from
        (select set_id from placements group by set_id having count(*) > 1) as again`;
    const [booked] = await tx<{ count: number }[]>`
      select count(*)::int as count from hosts h
      where h.allocated_cpu_millis > h.allocatable_cpu_millis
        or h.allocated_cpu_millis <>
          (select coalesce(sum(s.cpu_millis), 0) from sets s where s.host_id = h.id)
        or h.overhead_memory_bytes <
          (select coalesce(sum(s.overhead_memory_bytes), 0) from sets s where s.host_id = h.id)`;
    const [outbox] = await tx<{ count: number }[]>`select count(*)::int as count from outbox`;
    return {
      states: Object.fromEntries(states.map((row) => [row.state, row.count])),
      placedTwice: twice?.count ?? -1,
      wronglyBooked: booked?.count ?? -1,
      outbox: outbox?.count ?? -1,
    };
  });
}
