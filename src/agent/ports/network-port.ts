import type { Attachment } from "../../contracts/agent-protocol/attachment.ts";
import type { LocalSetSpec, ProbeResult } from "../model/local-set.ts";

/**
 * The networks of sets. A set's infra container joins Docker networks, and its business containers
 * share infra's interfaces. A set without attachments is in Docker's bridge.
 *
 * Every call is idempotent, and calls for one set never overlap. A call rejects with AgentError.
 */
export interface NetworkPort {
  /**
   * Ensures that the set's networks exist, and returns those that infra joins. Each of them stays
   * until `release`, or until `prepare` is called for the set without it.
   */
  prepare(set: LocalSetSpec, signal: AbortSignal): Promise<JoinedNetworks>;
  /**
   * Releases what `prepare` reserved for a set without containers, and deletes networks that no
   * container of the host uses. If it cannot delete a network, a later release tries again.
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

/** The networks of a set in the order of its interfaces. */
export type JoinedNetworks = readonly [JoinedNetwork, ...JoinedNetwork[]];

/** A Docker network that infra joins. */
export interface JoinedNetwork {
  dockerNetwork: string;
  /** The interface of the set. Without it, Docker chooses the address. */
  attachment?: Attachment | undefined;
}

export interface ProbedEndpoint {
  address: string;
  port: number;
  /** Probes with an HTTP request for this path; without it, only connects. */
  path?: string | undefined;
  /**
   * Lists the processes of a running container of the set. The host has no route to the networks
   * of sets, so the probe connects from the network namespace of a process. Without this function,
   * it connects from the network of the host.
   */
  listProcesses?: (() => Promise<readonly number[]>) | undefined;
}
