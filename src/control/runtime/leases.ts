import {
  claimSweepLease,
  releaseSweepLease,
  renewSweepLease,
} from "../../db/queries/runtime/leases.ts";
import { newId } from "../../lib/ids.ts";
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
  const holder = newId("lease");
  if (!(await claimSweepLease(db, name, holder, leaseMs))) return undefined;
  return {
    renew: () => renewSweepLease(db, name, holder, leaseMs),
    release: () => releaseSweepLease(db, name, holder),
  };
}
