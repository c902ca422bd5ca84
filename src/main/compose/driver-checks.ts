import { runAbortable } from "../../lib/async/abort.ts";
import { repeatUntilStopped } from "../../lib/async/repeat-until-stopped.ts";
import type { NetworkDriver } from "../../network-driver/network-driver.ts";

/** The pause between two checks of the flows, which a restarted switch lacks. */
const CHECK_PAUSE_MS = 3_000;
/** Records, links and ports are compared after this number of pauses, or sooner after an error. */
const PAUSES_PER_CONVERGENCE = 10;
const CONVERGENCE_TIMEOUT_MS = 60_000;

type CheckedDriver = Pick<
  NetworkDriver,
  "checkFilter" | "checkFlows" | "checkNames" | "converge" | "endConnections" | "wantsConvergence"
>;

/**
 * Checks flows, names and the packet filter, ends connections and converges, in five loops. So a
 * convergence that fails or takes long delays no repair of the flows. A name server that is down,
 * or a switch with many connections, delays neither of them. Each loop runs one call at a time. A
 * failed convergence is repeated after one pause.
 *
 * @param isConverged whether a convergence has succeeded before
 */
export function startDriverChecks(
  driver: CheckedDriver,
  {
    isConverged,
    signal,
    onError,
    pauseMs = CHECK_PAUSE_MS,
  }: {
    isConverged: boolean;
    signal: AbortSignal;
    onError: (error: unknown) => void;
    pauseMs?: number;
  },
): { stop(): Promise<void> } {
  let pausesLeft = isConverged ? PAUSES_PER_CONVERGENCE : 0;
  const check = async (): Promise<void> => {
    try {
      await driver.checkFlows(signal);
    } catch (error) {
      pausesLeft = 0; // the bridge may be missing, which a convergence creates
      throw error;
    }
  };
  const converge = async (): Promise<void> => {
    pausesLeft -= 1;
    if (pausesLeft >= 0 && !driver.wantsConvergence) return;
    await convergeOnce(driver, signal, CONVERGENCE_TIMEOUT_MS);
    pausesLeft = PAUSES_PER_CONVERGENCE;
  };
  const checkNames = () => driver.checkNames(signal);
  const endConnections = () => driver.endConnections(signal);
  const checkFilter = () => driver.checkFilter(signal);
  const loops = [check, checkNames, checkFilter, endConnections, converge].map((work) =>
    repeatUntilStopped(work, pauseMs, onError),
  );
  return {
    stop: async () => {
      await Promise.all(loops.map((loop) => loop.stop()));
    },
  };
}

/** Rejects if the convergence fails or does not end in time. */
export async function convergeOnce(
  driver: Pick<NetworkDriver, "converge">,
  signal: AbortSignal,
  timeoutMs: number,
): Promise<void> {
  const onLate = (): never => {
    throw new Error(`the convergence did not end within ${timeoutMs / 1_000} s`);
  };
  await runAbortable({ signal, deadline: { timeoutMs, onLate } }, (late) => driver.converge(late));
}
