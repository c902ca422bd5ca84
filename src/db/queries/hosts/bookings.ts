import { sql } from "drizzle-orm";

/**
 * Parts of statements that change the bookings of a host. They read sums of amounts from `b`: cpu,
 * memory, volume and rootfs. An amount is unreported until the agent reports its usage.
 */

/** Columns of `b` over rows with the amounts of sets. */
export const amountSums = sql.raw(
  "sum(cpu_millis) as cpu, sum(memory_bytes) as memory, sum(volume_bytes) as volume, sum(rootfs_bytes) as rootfs",
);

const dimensions = [
  ["cpu_millis", "cpu"],
  ["memory_bytes", "memory"],
  ["volume_bytes", "volume"],
  ["rootfs_bytes", "rootfs"],
] as const;

/** Assignments of an update of hosts that books `b`. */
export const booked = sql.raw(
  dimensions
    .flatMap(([column, sum]) => [
      `allocated_${column} = allocated_${column} + b.${sum}`,
      `unreported_${column} = unreported_${column} + b.${sum}`,
    ])
    .join(", "),
);

/** Assignments of an update of hosts that frees `b`, of which no report contains anything yet. */
export const freed = sql.raw(
  dimensions
    .flatMap(([column, sum]) => [
      `allocated_${column} = allocated_${column} - b.${sum}`,
      `unreported_${column} = greatest(0, unreported_${column} - b.${sum})`,
    ])
    .join(", "),
);
