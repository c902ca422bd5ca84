import { setMaxListeners } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { Lease } from "../../control/runtime/leases.ts";
import { holdLease } from "./hold-lease.ts";
import { repeatSweep, type RepeatOptions, type Sweep } from "./repeat-sweep.ts";

export interface LeadOptions extends RepeatOptions {
  sweeps: readonly Sweep[];
  /** Claims the lease of the sweeps. Returns undefined if another job worker holds it. */
  claimLease: (leaseMs: number) => Promise<Lease | undefined>;
  leaseMs?: number;
  claimEveryMs?: number;
}

const LEASE_MS = 6_000;
const CLAIM_EVERY_MS = 2_000;
const FAILURES_PER_LOG_LINE = 30;
/** A sweep listens during its pause or during its run, never during both. */
const LISTENERS_PER_SWEEP_MAX = 1;

/**
 * Runs all sweeps while this process holds their lease, and otherwise tries to claim the lease. So
 * any number of job workers scan as often as one, and an idle sweep costs no commit of its own.
 *
 * If the holder dies, another job worker claims the lease within 10 s: after it expires and one
 * interval of claims. A holder that stops releases the lease after its runs have ended. The lease
 * is in Postgres and the timers belong to the process, so sweeps do not depend on Redis (I1).
 *
 * The returned function stops the sweeps: each run in progress ends after its current item.
 */
export function leadSweeps(options: LeadOptions): () => Promise<void> {
  const { claimEveryMs = CLAIM_EVERY_MS, log } = options;
  const stopping = new AbortController();
  const { signal } = stopping;
  let failures = 0;
  const loop = async (): Promise<void> => {
    for (;;) {
      const pauseMs = claimEveryMs * (0.8 + Math.random() * 0.4);
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await leadOnce(options, signal);
        failures = 0;
      } catch (error) {
        if (failures++ % FAILURES_PER_LOG_LINE === 0)
          log.warn({ err: error, failures }, "cannot claim the lease of the sweeps");
      }
    }
  };
  const done = loop();
  return async () => {
    stopping.abort();
    await done;
  };
}

/** Runs the sweeps until the lease is lost or the process stops. Returns when all runs ended. */
async function leadOnce(options: LeadOptions, stopping: AbortSignal): Promise<void> {
  const { sweeps, leaseMs = LEASE_MS, log } = options;
  const claimedAtMs = performance.now();
  const lease = await options.claimLease(leaseMs);
  if (!lease) return;
  const held = holdLease(lease, { leaseMs, claimedAtMs, stopping, log });
  setMaxListeners(LISTENERS_PER_SWEEP_MAX * sweeps.length, held.signal);
  await Promise.all(sweeps.map((sweep) => repeatSweep(sweep, options, held.signal)));
  // A lease that is not released expires.
  await held.release().catch(() => undefined);
}
