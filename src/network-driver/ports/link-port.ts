/**
 * The links of sets: pairs of virtual Ethernet interfaces (veth). The host's end becomes a port of
 * the switch, and Docker moves the container's end into the network namespace of a container.
 *
 * Every call is idempotent, has a deadline of its own and ends when its signal is aborted. Calls
 * for one link never overlap. A call rejects with LinkError, even if it may have taken effect.
 */
export interface LinkPort {
  /**
   * Ensures that the link exists, with its container's end in the namespace of the driver. Replaces
   * a link whose container's end is in another namespace. The host's end is up, and the host itself
   * neither sends nor receives on it.
   */
  ensure(link: Link, signal: AbortSignal): Promise<void>;
  /**
   * Disables the transmit checksum offload of the container's end if the datapath needs complete
   * checksums. The end is in the namespace of the driver. The call may overlap that of the switch
   * for its port.
   */
  disableChecksumOffload(containerEnd: string, signal: AbortSignal): Promise<void>;
  /** Removes both ends, wherever the container's end is. A missing link is not an error. */
  remove(hostEnd: string, signal: AbortSignal): Promise<void>;
  /** Lists all veth interfaces in the namespace of the driver, by name. */
  list(signal: AbortSignal): Promise<ListedLink[]>;
}

export interface Link {
  /** Names of at most 15 characters. */
  hostEnd: string;
  containerEnd: string;
  /** The MAC address of the container's end. */
  mac: string;
  /** The MTU of both ends. */
  mtu: number;
}

export interface ListedLink {
  name: string;
  /** True if the other end is in another namespace: a container has it. */
  isPeerInOtherNamespace: boolean;
}

/** A change of a link failed. Its message is a sentence for operators. */
export class LinkError extends Error {
  override readonly name = "LinkError";
}
