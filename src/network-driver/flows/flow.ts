/**
 * The tables of the integration bridge, by number. A frame that no flow of a table matches is
 * dropped there. docs/internals/network-flows.md has the order in which a packet passes them.
 */
export const flowTables = {
  /** Finds the frame's network, and drops frames that their port may not send. */
  classify: 0,
  /** Answers ARP and neighbor discovery, and passes packets to connection tracking. */
  neighbors: 1,
  /** Passes permitted connections, and finds the facts of new ones for the rules of senders. */
  egress: 2,
  /** Finds the port of the packet's destination. */
  forward: 3,
  /** Passes permitted connections, and finds the facts of new ones for the rules of receivers. */
  ingress: 4,
  /** Commits new connections, and outputs the packet. */
  output: 5,
  /** Turns a request for a neighbor into its answer. */
  answer: 6,
  /** Completes the answer of neighbor discovery. */
  advertise: 7,
  /** Drops packets to external addresses that sets must not reach. */
  protect: 8,
  /** Translates the source of a packet to an external address. */
  outbound: 9,
  /** Delivers answers from external addresses, and connections to published ports. */
  inbound: 10,
  /** Chooses a set for a new connection to a service address. */
  service: 11,
  /** Addresses the packet to the chosen set. */
  backend: 12,
  /** Decides about a new connection by the rules for its sender. */
  egressRules: 13,
  /** Decides about a new connection by the rules for its receiver. */
  ingressRules: 14,
  /** Addresses a connection from outside to the set that the gateway chose. */
  gateway: 15,
  /** Restores the address of the gateway's client in an answer to it. */
  gatewayAnswers: 16,
  /** Outputs such an answer to the uplink, after the address of its set is restored. */
  gatewayLeave: 17,
} as const;

/** The registers that carry the facts of a frame from table to table. */
export const flowRegisters = {
  /** The VNI of the frame's network. */
  network: "reg0",
  /** The connection tracking zone of that network. */
  zone: "reg1",
  /** The port to which the table `output` sends the packet. */
  port: "reg2",
  /** 1 if the frame arrived through the tunnel, and 0 otherwise. */
  isRemote: "reg3",
  /** The number of the endpoint that the bridge chose for a connection to a service address. */
  choice: "reg5",
  /** 1 if the packet opens a connection to a service address, and 0 otherwise. */
  isToService: "reg6",
  /** The number of the sender's service, or 0. */
  fromService: "reg8",
  /** The number of the receiver's service, or 0. */
  toService: "reg9",
  /** 1 if one end of the connection is outside of the network, and 0 otherwise. */
  isExternal: "reg10",
  /** The port of the host at which a new connection from outside has arrived, or 0. */
  hostPort: "reg11",
} as const;

/**
 * The MAC address of all gateways, with which the bridge answers requests for them. IPv4 packets to
 * it leave through the uplink. Other frames to it are dropped.
 */
export const GATEWAY_MAC = "0a:07:00:00:00:01";
/** The MAC address of the host's end of the uplink. */
export const UPLINK_MAC = "0a:07:00:00:00:02";

/** Arguments of actions: the conntrack zone of the frame's network, and the port of `output`. */
export const zoneInRegister = `zone=NXM_NX_${flowRegisters.zone.toUpperCase()}[0..15]`;
export const portInRegister = `NXM_NX_${flowRegisters.port.toUpperCase()}[]`;

/** The datapath of the kernel module, or the one in the daemon of Open vSwitch. */
export type Datapath = "system" | "netdev";

/** One OpenFlow flow. Matches and actions are in the syntax of ovs-ofctl. */
export interface Flow {
  table: number;
  priority: number;
  /** The VNI of the flow's network, or 0. `ovs-ofctl dump-flows` filters by it. */
  cookie: number;
  /** Empty for a flow that matches every frame. */
  match: string;
  actions: string;
}

/** Returns a flow of one network, which has the cookie of that network. */
export function toNetworkFlow(
  { vni }: { vni: number },
  table: number,
  priority: number,
  match: string,
  actions: string,
): Flow {
  return { table, priority, cookie: vni, match, actions };
}

/** The action that loads a number into a register. */
export function load(value: number, register: string): string {
  return `set_field:${value}->${register}`;
}

/** Renders one line for `ovs-ofctl replace-flows`. */
export function renderFlow({ table, priority, cookie, match, actions }: Flow): string {
  const head = `cookie=0x${cookie.toString(16)},table=${table},priority=${priority}`;
  return `${head},${match === "" ? "" : `${match},`}actions=${actions}`;
}

/** Orders flows by table, descending priority, and match. */
export function compareFlows(a: Flow, b: Flow): number {
  if (a.table !== b.table) return a.table - b.table;
  if (a.priority !== b.priority) return b.priority - a.priority;
  return a.match < b.match ? -1 : a.match > b.match ? 1 : 0;
}
