/**
 * The routing and packet filter of the host behind the uplink, through which the sets of all
 * networks reach external addresses. Open connections survive each call.
 */
export interface Uplink {
  /** The first of the uplink's 65,536 IPv4 addresses, which no other route of the host covers. */
  readonly firstAddress: string;
  /**
   * Ensures that packets from this end leave on the interface of the host's default route, and that
   * answers return. The packets get the address of the host as source. None reaches the host itself
   * or its other interfaces, except DNS queries to `nameServerAddress`, which the host has only
   * there. The packet filter is complete before the first packet passes.
   * Idempotent, has a deadline, and rejects with SwitchError.
   */
  ensure(end: UplinkEnd, signal: AbortSignal): Promise<void>;
  /**
   * Replaces the ports of the host that lead into networks. Connections of other machines to them
   * reach the bridge with the address of the network as destination. Until the first call, the
   * ports of an earlier process stay. Call `ensure` before. Rejects with SwitchError.
   *
   * No other program of the host can listen at a published port. Ports at which one already listens
   * are not published: see `takenPorts`.
   */
  publish(ports: readonly HostPort[], signal: AbortSignal): Promise<void>;
  /**
   * The ports of the last `publish` at which another program of the host listens. Each `ensure`
   * tries them again.
   */
  readonly takenPorts: readonly HostPort[];
  /** Rejects with SwitchError if a program of the host uses one of these ports. */
  checkUnused(ports: readonly Omit<HostPort, "address">[]): Promise<void>;
}

/** A port of the host, and the address that stands for the network to which it leads. */
export interface HostPort {
  protocol: "tcp" | "udp";
  hostPort: number;
  address: string;
}

/** The host's end of the uplink. */
export interface UplinkEnd {
  interfaceName: string;
  /** The MAC address of the bridge's gateway, to which the host sends answers. */
  gatewayMac: string;
  /** The address of the host's name server, one of the uplink's addresses. */
  nameServerAddress: string;
}
