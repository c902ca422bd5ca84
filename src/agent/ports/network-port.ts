/**
 * The agent's operations on the virtual networks of its host. A set's address, gateway and routes
 * exist before its infra container starts, and after each restart of it, of Docker or of the agent.
 * No adapter implements this port yet. Sets use Docker's bridge, and
 * src/control/runtime/supported-features.ts rejects a template that names another network.
 *
 * Every call is idempotent, and the next call for the same set completes the work that a crash
 * interrupted. Calls for one set never overlap. A call rejects with AgentError. A call never
 * changes a port without this host's port id (I4).
 */
export interface NetworkPort {
  /** Lists the attachments of this host by set id, also of sets that no longer exist. */
  list(signal: AbortSignal): Promise<Attachment[]>;
  /**
   * Registers the set's network with Docker, so that the port can create the infra container in it.
   */
  prepare(spec: AttachmentSpec, signal: AbortSignal): Promise<{ dockerNetwork: string }>;
  /**
   * Detaches a set and deletes the ports of its addresses. Does nothing for a set without
   * attachments.
   */
  release(setId: string, signal: AbortSignal): Promise<void>;
}

export interface AttachmentSpec {
  setId: string;
  tenant: string;
  generation: number;
  network: NetworkSpec;
  /** The control plane allocates the address, because only it knows which addresses are in use. */
  address: string;
}

/** The parts of a tenant's network that a host needs. */
export interface NetworkSpec {
  networkId: string;
  /** In CIDR notation. */
  subnet: string;
  gateway: string;
  routes: readonly { destination: string; via: string }[];
}

export interface Attachment {
  setId: string;
  /** The name of the port on the host's switch. */
  portId: string;
  networkId: string;
  address: string;
}
