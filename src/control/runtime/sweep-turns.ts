import {
  claimSweepTurn as claimTurn,
  endSweepTurn,
  extendSweepTurn,
} from "../../db/queries/runtime/sweep-turns.ts";
import type { ControlContext } from "./context.ts";

/** The exclusive right to run one sweep, for a limited time. */
export interface SweepTurn {
  /** Extends the turn by its lease. Returns false when another process has the turn. */
  extend(): Promise<boolean>;
  /** Ends the turn. The next one may begin `nextInMs` from now. */
  end(nextInMs: number): Promise<void>;
}

/** Claims the turn of a sweep among all processes. Returns undefined when another has it. */
export async function claimSweepTurn(
  { db }: Pick<ControlContext, "db">,
  name: string,
  leaseMs: number,
): Promise<SweepTurn | undefined> {
  const claimed = await claimTurn(db, name, leaseMs);
  if (claimed === undefined) return undefined;
  let expiry = claimed;
  return {
    async extend() {
      const extended = await extendSweepTurn(db, name, expiry, leaseMs);
      expiry = extended ?? expiry;
      return extended !== undefined;
    },
    end: (nextInMs) => endSweepTurn(db, name, expiry, nextInMs),
  };
}
