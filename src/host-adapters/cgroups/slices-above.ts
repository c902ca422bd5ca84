import { stat } from "node:fs/promises";
import { coalesce } from "../../lib/async/coalesce.ts";
import { ignoreMissing } from "./write-existing.ts";

const { signal: neverAborts } = new AbortController();

/** The slices that contain the slices of all sets of a host. */
export interface SlicesAbove {
  /** True once they have their reservations. Something may have stopped them since. */
  areReserved(): boolean;
  /**
   * Starts them unless they run with their reservations. Concurrent calls share a start, and a
   * failed one is not remembered.
   */
  ensure(signal: AbortSignal): Promise<void>;
}

/** @param start starts all of them in order, and gives them their reservations */
export function createSlicesAbove(
  hostFolder: string,
  start: (signal: AbortSignal) => Promise<void>,
): SlicesAbove {
  let areReserved = false;
  const ensure = coalesce(async (signal: AbortSignal = neverAborts) => {
    if (areReserved && (await stat(hostFolder).catch(ignoreMissing))) return;
    await start(signal);
    areReserved = true;
  });
  return { areReserved: () => areReserved, ensure };
}
