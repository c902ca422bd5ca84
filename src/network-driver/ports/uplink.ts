/**
 * The routing and packet filter of the host behind the uplink, through which the sets of all
 * networks reach addresses outside. Open connections survive each call.
 */
export interface Uplink {
  /** The first of its 65,536 IPv4 addresses, which must be unused in the network of the host. */
  readonly firstAddress: string;
  /**
   * Ensures that packets from the interface leave on that of the host's default route, with the
   * address of the host as source. Answers return. No packet reaches the host itself or its other
   * interfaces. The packet filter is complete before the first packet passes. Idempotent, has a
   * deadline, and rejects with SwitchError.
   */
  ensure(end: UplinkEnd, signal: AbortSignal): Promise<void>;
}

/** The host's end of the uplink. */
export interface UplinkEnd {
  interfaceName: string;
  /** The MAC address to which the host sends answers. */
  gatewayMac: string;
}
