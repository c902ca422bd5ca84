import type { SetTemplate } from "../../contracts/api/set-template.ts";
import type { SetAmounts } from "../../db/queries/services/resizes.ts";
import { assert } from "../../lib/assert.ts";
import { fitsHost } from "../../scheduler/placement/fits.ts";
import type { HostSnapshot, PlanPolicy, Resources } from "../../scheduler/placement/model.ts";

/** The amounts that a set of this template books. */
export function amountsOfTemplate(template: SetTemplate): SetAmounts {
  return {
    cpuMillis: template.cpuMillis,
    memoryBytes: template.memoryBytes,
    volumeBytes: template.volume?.sizeBytes ?? 0,
  };
}

/** The amounts to book in addition to what `set` has booked; 0 where `to` asks for less. */
export function growthOf(set: SetAmounts, to: SetTemplate): Resources {
  const wanted = amountsOfTemplate(to);
  return {
    cpuMillis: Math.max(0, wanted.cpuMillis - set.cpuMillis),
    memoryBytes: Math.max(0, wanted.memoryBytes - set.memoryBytes),
    volumeBytes: Math.max(0, wanted.volumeBytes - set.volumeBytes),
    rootfsBytes: 0,
  };
}

/** Whether a host has room for the growth of a set; if so, it is counted on `host`. */
export function fitsGrowth(host: HostSnapshot, policy: PlanPolicy, growth: Resources) {
  const pool = policy.pools.find((candidate) => candidate.pool === host.pool);
  assert(pool, `host pool ${host.pool} has a policy`);
  const fit = fitsHost(host, pool, growth);
  if (!fit.ok) return fit;
  for (const dimension of ["cpuMillis", "memoryBytes", "volumeBytes"] as const) {
    host.allocated[dimension] += growth[dimension];
    host.placedSinceReport[dimension] += growth[dimension];
  }
  return fit;
}
