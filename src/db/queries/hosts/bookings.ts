import { type SQL, sql } from "drizzle-orm";

/**
 * Parts of statements that change the bookings of a host. They read sums of amounts from `b`: cpu,
 * memory, volume and rootfs, and of the overhead of sets. An amount is unreported until the agent
 * reports its usage.
 */

const amounts = sql.raw(
  "sum(cpu_millis) as cpu, sum(memory_bytes) as memory, sum(volume_bytes) as volume, sum(rootfs_bytes) as rootfs",
);

/** Columns of `b` over rows of sets. */
export const setSums = sql`${amounts}, sum(overhead_memory_bytes) as overhead_memory, sum(overhead_rootfs_bytes) as overhead_rootfs`;

/** Columns of `b` over rows of claims. Their amounts contain the overhead. */
export const claimSums = sql`${amounts}, 0 as overhead_memory, 0 as overhead_rootfs`;

const dimensions = [
  ["cpu_millis", "cpu", "0"],
  ["memory_bytes", "memory", "b.overhead_memory"],
  ["volume_bytes", "volume", "0"],
  ["rootfs_bytes", "rootfs", "b.overhead_rootfs"],
] as const;

/** Assignments of an update of hosts that books `b`. */
export const booked = sql.raw(
  [
    ...dimensions.flatMap(([column, sum, overhead]) => [
      `allocated_${column} = allocated_${column} + b.${sum}`,
      `unreported_${column} = unreported_${column} + b.${sum} + ${overhead}`,
    ]),
    "overhead_memory_bytes = overhead_memory_bytes + b.overhead_memory",
    "overhead_rootfs_bytes = overhead_rootfs_bytes + b.overhead_rootfs",
  ].join(", "),
);

/** Assignments of an update of hosts that frees claims `b`, which no report contains yet. */
export const freed = sql.raw(
  dimensions
    .flatMap(([column, sum]) => [
      `allocated_${column} = allocated_${column} - b.${sum}`,
      `unreported_${column} = greatest(0, unreported_${column} - b.${sum})`,
    ])
    .join(", "),
);

/** The booked amounts of a host with the overhead, as numbers in both drivers. */
export const bookedMemorySql: SQL<number> = sql`(allocated_memory_bytes + overhead_memory_bytes)::float8`;
export const bookedRootfsSql: SQL<number> = sql`(allocated_rootfs_bytes + overhead_rootfs_bytes)::float8`;
