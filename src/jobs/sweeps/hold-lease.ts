import type { Lease } from "../../control/runtime/leases.ts";
import type { Log } from "../../lib/log.ts";

export interface HeldLease {
  /** Aborts when the holder must stop its work. */
  signal: AbortSignal;
  /**
   * Stops the renewals, and releases the lease if it cannot have expired yet. An expired lease may
   * belong to a process of the previous release, which does not store itself as the holder.
   */
  release(): Promise<void>;
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
 * Renews a lease, so that no two processes work under it at the same time. The signal aborts
 * immediately in these cases:
 *
 * - The process stops.
 * - Another process has claimed the lease.
 * - Postgres has not answered during a whole lease.
 *
 * A renewal does not wait for the answer of the previous one, which may be lost. A lease has at
 * most three renewals without an answer. A process that continues after a pause of a whole lease
 * does not renew it.
 */
export function holdLease(lease: Lease, options: HoldOptions): HeldLease {
  const { leaseMs, stopping, log } = options;
  const controller = new AbortController();
  let validUntilMs = options.claimedAtMs + leaseMs;
  let isStopped = false;
  let isLost = false;
  const isExpired = () => performance.now() >= validUntilMs;
  const stop = (): void => {
    isStopped = true;
    clearInterval(renewing);
    clearTimeout(expiring);
    stopping.removeEventListener("abort", abort);
  };
  const abort = (): void => {
    stop();
    controller.abort();
  };
  const lose = (): void => {
    if (isStopped) return;
    isLost = true;
    log.warn({}, "lost the lease of the sweeps; stopping them");
    abort();
  };
  const startExpiry = () => setTimeout(lose, validUntilMs - performance.now());
  const renew = async (): Promise<void> => {
    const sentAtMs = performance.now();
    const isRenewed = await lease.renew();
    if (isStopped) return;
    if (!isRenewed) {
      lose();
      return;
    }
    validUntilMs = Math.max(validUntilMs, sentAtMs + leaseMs);
    clearTimeout(expiring);
    expiring = startExpiry();
  };
  const tick = (): void => {
    if (isExpired()) {
      lose();
      return;
    }
    void renew().catch((error: unknown) => {
      if (!isStopped) log.warn({ err: error }, "cannot renew the lease of the sweeps");
    });
  };
  let expiring = startExpiry();
  const renewing = setInterval(tick, leaseMs / RENEWALS_PER_LEASE);
  stopping.addEventListener("abort", abort, { once: true });
  if (stopping.aborted) abort();
  const release = async (): Promise<void> => {
    stop();
    if (!isLost && !isExpired()) await lease.release();
  };
  return { signal: controller.signal, release };
}
