/** The name of the port to the tunnels between hosts. */
export const TUNNEL_PORT = "berth-vxlan";

/**
 * The integration bridge of a host: one Open vSwitch bridge, whose ports are the host ends of the
 * links of sets. The adapter's settings name the bridge and its datapath (kernel or netdev).
 *
 * Every call is idempotent, has a deadline of its own and ends when its signal is aborted. A call
 * that rejects may have taken effect, so the caller repeats it or observes with `listPorts`. Calls
 * for one port never overlap, and calls of `replaceFlows` never overlap each other. A call rejects
 * with SwitchError.
 *
 * The port table survives a restart of Open vSwitch and of the host; flows and port numbers do not.
 */
export interface SwitchPort {
  /**
   * Ensures that the bridge exists with its datapath, in the mode `secure`: without flows it
   * forwards nothing. Changes neither ports nor flows of an existing bridge. Also ensures the port
   * to other hosts, and tries to open it if it is closed: see `listPorts`. Limits the tracked
   * connections of each network, so that none can use up the host's table.
   */
  ensureBridge(signal: AbortSignal): Promise<void>;
  /**
   * Ensures that the network interface `name` is a port of the bridge with exactly these external
   * ids. The caller creates the interface first. Rejects if Open vSwitch could not open it, and
   * then leaves no port. Interrupts no traffic of an existing port.
   */
  addPort(port: BridgePort, signal: AbortSignal): Promise<void>;
  /** Removes a port. The network interface stays. A missing port is not an error. */
  removePort(name: string, signal: AbortSignal): Promise<void>;
  /**
   * Lists all ports of the bridge by name, without the bridge's own port. The list has foreign
   * ports too, and ports whose interface has vanished.
   */
  listPorts(signal: AbortSignal): Promise<ListedPort[]>;
  /**
   * Replaces all flows of the bridge in one bundle: afterwards either all new flows are in force,
   * or all old ones. Each flow is one line in the syntax of ovs-ofctl. Unchanged flows keep their
   * counters, and open connections continue.
   */
  replaceFlows(flows: readonly string[], signal: AbortSignal): Promise<void>;
  /**
   * Removes tracked connections, so that the next packet of each is new. It resolves when none is
   * left. It needs Open vSwitch 3.1, and fails on a host with bridges of both datapaths.
   */
  endConnections(connections: TrackedConnections, signal: AbortSignal): Promise<void>;
  /**
   * Lists how the destinations of the tracked connections of a conntrack zone are translated. No
   * connection opens later by flows that were replaced before the call.
   */
  listTranslations(zone: number, signal: AbortSignal): Promise<Translation[]>;
  /**
   * Counts the flows of the bridge. It is cheap at any number of flows, and shows whether Open
   * vSwitch has lost them, for example by a restart.
   */
  countFlows(signal: AbortSignal): Promise<number>;
  /**
   * True if the database and the switch daemon answer. Never rejects, except with the reason of an
   * aborted signal.
   */
  isUp(signal: AbortSignal): Promise<boolean>;
}

export interface BridgePort {
  /** The name of a network interface: at most 15 characters. */
  name: string;
  /** Keys begin with `berth-`. Values are printable ASCII of at most 1,024 characters. */
  externalIds: Readonly<Record<string, string>>;
}

/** All connections of a zone, or some of them. */
export interface TrackedConnections {
  /** The conntrack zone of one network. */
  zone: number;
  /** Only those for whose destinations it returns true. They are equal without a translation. */
  isStale?: ((destinations: Translation) => boolean) | undefined;
  /**
   * Only those for which it returns true. Equal connections have equal results. If they are too
   * many to remove one by one, also others to the same ports, or all connections of the zone.
   */
  isSelected?: ((connection: TrackedConnection) => boolean) | undefined;
}

/** A translated destination, and the address to which it leads, in canonical form. */
export interface Translation {
  destination: string;
  translatedTo: string;
}

/** A connection after the translation of its destination. */
export interface TrackedConnection {
  protocol: "tcp" | "udp" | "icmp" | "other";
  from: string;
  to: string;
  /** The destination port of TCP and UDP. */
  port: number | null;
}

export interface ListedPort extends BridgePort {
  /**
   * The number of the port in flows. Undefined until Open vSwitch has opened the interface, and
   * again after the interface vanished. It changes when the port or the bridge is created again.
   */
  ofPort: number | undefined;
  /** Why Open vSwitch could not open the interface. */
  error?: string | undefined;
}

/** A call to the switch failed. Its message is a sentence for operators. */
export class SwitchError extends Error {
  override readonly name = "SwitchError";
}
