import type { LocalSetSpec, ProbeResult } from "../model/local-set.ts";

/**
 * The network of sets. A set's infra container joins a Docker network, and its business containers
 * share infra's interfaces. Today every set is in Docker's bridge, and
 * src/control/runtime/supported-features.ts rejects a template that names another network.
 *
 * Every call is idempotent, and calls for one set never overlap. A call rejects with AgentError.
 */
export interface NetworkPort {
  /** Ensures that the set's network exists, and returns the Docker network that infra joins. */
  prepare(set: LocalSetSpec, signal: AbortSignal): Promise<{ dockerNetwork: string }>;
  /**
   * Releases what `prepare` reserved for a set without containers. Does nothing for any other set.
   */
  release(setId: string, signal: AbortSignal): Promise<void>;
  /**
   * Probes a port of a set over TCP or HTTP, within the timeout. Calls no Docker API, so it works
   * while the daemon hangs. Rejects only when aborted.
   */
  probe(
    endpoint: ProbedEndpoint,
    timeoutSeconds: number,
    signal: AbortSignal,
  ): Promise<ProbeResult>;
}

export interface ProbedEndpoint {
  address: string;
  port: number;
  /** Probes with an HTTP request for this path; without it, only connects. */
  path?: string | undefined;
}
