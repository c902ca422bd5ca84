import type { SetSize } from "../../db/queries/services/resizes.ts";
import { assert } from "../../lib/assert.ts";
import { fitsHost } from "../../scheduler/placement/fits.ts";
import {
  dimensions,
  type HostSnapshot,
  type PlanPolicy,
  type Resources,
} from "../../scheduler/placement/model.ts";

/** Computes the amounts to book in addition to the booked ones. */
export function computeGrowth(booked: SetSize, to: SetSize): Resources {
  return {
    cpuMillis: Math.max(0, to.cpuMillis - booked.cpuMillis),
    memoryBytes: Math.max(0, to.memoryBytes - booked.memoryBytes),
    volumeBytes: Math.max(0, to.volumeBytes - booked.volumeBytes),
    rootfsBytes: 0,
  };
}

/**
 * Adds the amounts to `host` if they fit. Returns whether they did. The amounts are those of a set,
 * or its growth.
 */
export function reserveIfFits(host: HostSnapshot, policy: PlanPolicy, growth: Resources) {
  const pool = policy.pools.find((candidate) => candidate.pool === host.pool);
  assert(pool, `host pool ${host.pool} has a policy`);
  const fit = fitsHost(host, pool, growth);
  if (!fit.ok) return fit;
  for (const dimension of dimensions) {
    host.allocated[dimension] += growth[dimension];
    host.unreported[dimension] += growth[dimension];
  }
  return fit;
}
