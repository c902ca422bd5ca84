import { createFairLimit, type FairLimit } from "../../lib/async/fair-limit.ts";
import type { AgentLimits } from "./agent-limits.ts";
import type { Clock } from "./clock.ts";

/**
 * The host's limits of concurrent work, one for each kind. Their keys are tenants, which take
 * turns, so the sets of one tenant do not delay the sets of another. TCP and HTTP probes have no
 * limit: a set has at most one connection for each of its containers.
 */
export interface WorkLimits {
  /** Steps that create, start, resize or delete. */
  steps: FairLimit;
  /** Stops of sets and of containers, which mostly wait for processes to exit. */
  stops: FairLimit;
  /** Observations of single sets. */
  observations: FairLimit;
  /** Probes that run a command in a container. */
  execProbes: FairLimit;
}

/** Bounds as multiples of `callsMax`. */
interface Factors {
  /** Slow calls beyond the limit. */
  slow: number;
  /** Calls of one tenant, slow ones included. */
  tenant: number;
}

/** A slow step still uses CPU and disk, so at most twice the limit run. */
const stepFactors: Factors = { slow: 1, tenant: 1 };
/** Other slow calls only wait for a process or for Docker. */
const waitFactors: Factors = { slow: 8, tenant: 4 };

export function createWorkLimits(
  { stepsMax, stopsMax, observationsMax, execProbesMax }: AgentLimits,
  clock: Clock,
): WorkLimits {
  const limitOf = (callsMax: number, slowMs: number, { slow, tenant } = waitFactors) =>
    createFairLimit({
      callsMax,
      slowMs,
      slowMax: callsMax * slow,
      callsPerKeyMax: callsMax * tenant,
      after: (delayMs, callback) => clock.after(delayMs, callback),
    });
  return {
    steps: limitOf(stepsMax, 5_000, stepFactors),
    stops: limitOf(stopsMax, 1_000),
    observations: limitOf(observationsMax, 2_000),
    execProbes: limitOf(execProbesMax, 1_000),
  };
}
