import type { Lease } from "../../control/runtime/leases.ts";
import type { Log } from "../../lib/log.ts";

export interface HeldLease {
  /** Aborts when the holder must stop its work. */
  signal: AbortSignal;
  /** Stops the renewals. */
  stop(): void;
}

export interface HoldOptions {
  leaseMs: number;
  /** When the claim was sent, by `performance.now`. The lease expires `leaseMs` later. */
  claimedAtMs: number;
  /** Aborts when the process stops. */
  stopping: AbortSignal;
  log: Log;
}

const RENEWALS_PER_LEASE = 3;

/**
 * Renews a lease, so that no two processes work under it at the same time. The signal aborts in
 * these cases:
 *
 * - The process stops.
 * - Another process has claimed the lease.
 * - Postgres has not answered during a whole lease.
 */
export function holdLease(lease: Lease, options: HoldOptions): HeldLease {
  const { leaseMs, stopping, log } = options;
  const controller = new AbortController();
  let validUntilMs = options.claimedAtMs + leaseMs;
  let isRenewing = false;
  const abort = (): void => {
    clearInterval(timer);
    controller.abort();
  };
  const renew = async (): Promise<void> => {
    const nowMs = performance.now();
    validUntilMs = (await lease.renew()) ? nowMs + leaseMs : 0;
  };
  const tick = (): void => {
    if (performance.now() >= validUntilMs) {
      log.warn({}, "lost the lease of the sweeps; stopping them");
      abort();
    } else if (!isRenewing) {
      isRenewing = true;
      void renew()
        .catch((error: unknown) => log.warn({ err: error }, "cannot renew the lease of the sweeps"))
        .finally(() => (isRenewing = false));
    }
  };
  const timer = setInterval(tick, leaseMs / RENEWALS_PER_LEASE);
  stopping.addEventListener("abort", abort, { once: true });
  if (stopping.aborted) abort();
  return {
    signal: controller.signal,
    stop: () => {
      clearInterval(timer);
      stopping.removeEventListener("abort", abort);
    },
  };
}
