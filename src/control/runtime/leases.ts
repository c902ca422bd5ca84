import {
  claimSweepLease,
  releaseSweepLease,
  renewSweepLease,
} from "../../db/queries/runtime/leases.ts";
import type { ControlContext } from "./context.ts";

/** An exclusive right among all processes, for a limited time. */
export interface Lease {
  /** Renews the lease for its full time. Returns false when another process has claimed it. */
  renew(): Promise<boolean>;
  /** Releases the lease, so that another process may claim it immediately. */
  release(): Promise<void>;
}

/** Claims a lease among all processes. Returns undefined while another one holds it. */
export async function claimLease(
  { db }: Pick<ControlContext, "db">,
  name: string,
  leaseMs: number,
): Promise<Lease | undefined> {
  const claimed = await claimSweepLease(db, name, leaseMs);
  if (claimed === undefined) return undefined;
  let expiry = claimed;
  return {
    async renew() {
      const renewed = await renewSweepLease(db, name, expiry, leaseMs);
      expiry = renewed ?? expiry;
      return renewed !== undefined;
    },
    release: () => releaseSweepLease(db, name, expiry),
  };
}
