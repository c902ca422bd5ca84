import type { HostCapabilities } from "../../contracts/api/host-capabilities.ts";

export type DockerCapabilities = NonNullable<HostCapabilities["docker"]>;

/** Tests whether this machine can run a set at all. A call rejects with AgentError. */
export interface SelfTestPort {
  /** Reads the facts about the daemon that the control plane shows. */
  describeDocker(signal: AbortSignal): Promise<DockerCapabilities>;
  /**
   * Resolves if the machine can run a set. Otherwise it rejects, with a message that an operator
   * can act on. It leaves nothing behind, except after a crash: then the next test removes it.
   */
  run(signal: AbortSignal): Promise<void>;
}
