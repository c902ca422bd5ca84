import type { SetSize } from "../../db/queries/services/resizes.ts";
import { assert } from "../../lib/assert.ts";
import { fitsHost } from "../../scheduler/placement/fits.ts";
import type { HostSnapshot, PlanPolicy, Resources } from "../../scheduler/placement/model.ts";

/** The amounts to book in addition to the booked ones. */
export function growthOf(booked: SetSize, to: SetSize): Resources {
  return {
    cpuMillis: Math.max(0, to.cpuMillis - booked.cpuMillis),
    memoryBytes: Math.max(0, to.memoryBytes - booked.memoryBytes),
    volumeBytes: Math.max(0, to.volumeBytes - booked.volumeBytes),
    rootfsBytes: 0,
  };
}

/**
 * Whether a host has capacity for these amounts, such as the growth of a set. If so, `host` counts
 * them.
 */
export function fitsOnTop(host: HostSnapshot, policy: PlanPolicy, growth: Resources) {
  const pool = policy.pools.find((candidate) => candidate.pool === host.pool);
  assert(pool, `host pool ${host.pool} has a policy`);
  const fit = fitsHost(host, pool, growth);
  if (!fit.ok) return fit;
  for (const dimension of ["cpuMillis", "memoryBytes", "volumeBytes", "rootfsBytes"] as const) {
    host.allocated[dimension] += growth[dimension];
    host.placedSinceReport[dimension] += growth[dimension];
  }
  return fit;
}
