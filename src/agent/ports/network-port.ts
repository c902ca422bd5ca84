/**
 * What the agent can do to the virtual networks of its host: that each set's address, gateway and routes are there when its infra
 * container starts, and after every restart of it, of Docker or of the agent. No adapter implements it yet: sets are on
 * Docker's bridge, and a template that names another network is refused (src/control/runtime/supported-features.ts).
 *
 * Every call is idempotent, and whatever a crash left half done is finished by the next call for the same set. Calls for one
 * set never overlap. A call rejects with AgentError. What does not carry this host's port ids is never touched (I4).
 */
export interface NetworkPort {
  /** Everything of this host's that is attached, whether its set still exists or not; by set id. */
  list(signal: AbortSignal): Promise<Attachment[]>;
  /** Makes the set's network known to Docker, so that its infra container can be created in it. */
  prepare(spec: AttachmentSpec, signal: AbortSignal): Promise<{ dockerNetwork: string }>;
  /** What a set is attached to is let go of, with its addresses' ports. Nothing to do when there is nothing. */
  release(setId: string, signal: AbortSignal): Promise<void>;
}

export interface AttachmentSpec {
  setId: string;
  tenant: string;
  generation: number;
  network: NetworkSpec;
  /** Given by the control plane, which alone knows what is taken. */
  address: string;
}

/** One of a tenant's networks, as far as a host needs to know it. */
export interface NetworkSpec {
  networkId: string;
  /** CIDR. */
  subnet: string;
  gateway: string;
  routes: readonly { destination: string; via: string }[];
}

export interface Attachment {
  setId: string;
  /** Names the port on the host's switch. */
  portId: string;
  networkId: string;
  address: string;
}
