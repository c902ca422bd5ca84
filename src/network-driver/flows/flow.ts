/**
 * The tables of the integration bridge, in the order in which a frame passes them. A frame that no
 * flow of a table matches is dropped there. docs/internals/network-flows.md follows a packet.
 */
export const flowTables = {
  /** Finds the frame's network, and drops frames that their port may not send. */
  classify: 0,
  /** Answers ARP and neighbor discovery, and passes packets to connection tracking. */
  neighbors: 1,
  /** Decides whether the sender may send the packet. */
  egress: 2,
  /** Finds the port of the packet's destination. */
  forward: 3,
  /** Decides whether the receiver may receive the packet. */
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
  /** Delivers the answers from external addresses. */
  inbound: 10,
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
} as const;

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
