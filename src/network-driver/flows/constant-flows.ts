import {
  type Datapath,
  type Flow,
  flowTables as table,
  GATEWAY_MAC,
  portInRegister,
  zoneInRegister as zone,
} from "./flow.ts";

const ports = `output:${portInRegister}`;

/**
 * ICMPv6 types that a set may not send: those of routers, and advertisements of neighbors. In the
 * kernel's datapath, flows of a higher priority accept advertisements that are not spoofed.
 */
const forbiddenIcmpv6Types = {
  routerAdvertisement: 134,
  neighborAdvertisement: 136,
  redirect: 137,
};
/** Clouds serve the credentials of the host at link-local addresses, and at these two. */
const credentialAddresses = [
  "ip,nw_dst=169.254.0.0/16",
  "tcp,nw_dst=168.63.129.16", // Azure; its UDP is the cloud's DNS
  "ip,nw_dst=100.100.100.200", // Alibaba Cloud
];
/** Some clouds have their only DNS server there. */
const linkLocalDns = ["udp", "tcp"].map(
  (protocol) => `${protocol},nw_dst=169.254.169.254,tp_dst=53`,
);
/** Ports of DHCP clients, for IPv4 and IPv6: only a DHCP server sends to them. */
const dhcpClientPorts = ["udp,tp_dst=68", "udp6,tp_dst=546"];

/** The flows that do not depend on ports and networks. */
export function compileConstantFlows(datapath: Datapath): Flow[] {
  return [...commonFlows, ...(datapath === "netdev" ? answeringFlows : forwardingFlows)];
}

const commonFlows: readonly Flow[] = [
  ...Object.values(table).map((each) => drop(each, 0, "")),
  // Sets have no use for VLAN tags.
  drop(table.classify, 220, "vlan_tci=0x1000/0x1000"),
  ...Object.values(forbiddenIcmpv6Types).map((type) =>
    drop(table.classify, 210, `icmp6,icmpv6_type=${type}`),
  ),
  ...dhcpClientPorts.map((match) => drop(table.classify, 210, match)),

  // A request for an unknown neighbor, and every other frame of ARP, reaches no port.
  drop(table.neighbors, 90, "arp"),
  drop(table.neighbors, 90, "icmp6,icmpv6_type=135"),
  ...["ip", "ipv6"].flatMap((protocol) => [
    // The table outbound translates packets to external addresses, after the rules.
    flow(
      table.neighbors,
      85,
      `${protocol},dl_dst=${GATEWAY_MAC}`,
      `ct(table=${table.egress},${zone})`,
    ),
    // Packets of a connection to a service address get its translation, in both directions.
    flow(table.neighbors, 80, protocol, `ct(table=${table.service},${zone},nat)`),
  ]),

  // Packets that do not open a connection to a service address. See compileServices.
  flow(table.service, 10, "", `resubmit(,${table.egress})`),

  ...compileStates(table.egress, table.forward),
  ...compileStates(table.ingress, table.output),

  // The tables egress and ingress have both permitted the packet, so commit its connection.
  ...["ip", "ipv6"].map((protocol) =>
    flow(table.output, 100, `${protocol},ct_state=+trk+new`, `ct(commit,${zone}),${ports}`),
  ),
  flow(table.output, 90, "", ports),

  ...linkLocalDns.map((match) => flow(table.protect, 120, match, `goto_table:${table.outbound}`)),
  ...credentialAddresses.map((match) => drop(table.protect, 110, match)),
  flow(table.protect, 50, "ip", `goto_table:${table.outbound}`),

  // A packet of a committed connection gets the translation of that connection.
  flow(table.outbound, 90, "ip", `ct(${zone},nat),${ports}`),
  // External machines open connections only to published ports, whose flows precede this one.
  drop(table.inbound, 110, "ct_state=+trk+new"),
  drop(table.inbound, 110, "ct_state=+trk+inv"),

  flow(
    table.answer,
    100,
    "arp",
    [
      "set_field:2->arp_op",
      "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]",
      "move:NXM_OF_ETH_SRC[]->NXM_NX_ARP_SHA[]",
      "move:NXM_OF_ARP_TPA[]->NXM_NX_REG4[]",
      "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]",
      "move:NXM_NX_REG4[]->NXM_OF_ARP_SPA[]",
      "in_port",
    ].join(","),
  ),
];

/** The bridge answers neighbor discovery. */
const answeringFlows: readonly Flow[] = [
  flow(
    table.answer,
    100,
    "icmp6,icmpv6_type=135",
    [
      "move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[]",
      "move:NXM_NX_ND_TARGET[]->NXM_NX_IPV6_SRC[]",
      // The option with the sender's address becomes the one with the target's address.
      "set_field:2->nd_options_type",
      // Solicited, and overrides the cache of the receiver.
      "set_field:0x60000000->nd_reserved",
      "set_field:136->icmpv6_type",
      `goto_table:${table.advertise}`,
    ].join(","),
  ),
  // ovs-ofctl accepts the target's address only where the match says that it is an advertisement.
  flow(
    table.advertise,
    100,
    "icmp6,icmpv6_type=136",
    "move:NXM_OF_ETH_SRC[]->NXM_NX_ND_TLL[],in_port",
  ),
];

/** Ports answer neighbor discovery. It is not tracked, and table 0 drops spoofed addresses. */
const forwardingFlows: readonly Flow[] = [
  drop(table.classify, 210, "icmp6,icmpv6_type=135"),
  ...["icmp6,icmpv6_type=135", "icmp6,icmpv6_type=136"].map((match) =>
    flow(table.ingress, 120, match, `goto_table:${table.output}`),
  ),
];

/** Packets of permitted connections pass, and invalid ones are dropped. New ones need a rule. */
function compileStates(from: number, to: number): Flow[] {
  return [
    drop(from, 110, "ct_state=+trk+inv"),
    flow(from, 100, "ct_state=+trk+est", `goto_table:${to}`),
    flow(from, 100, "ct_state=+trk+rel", `goto_table:${to}`),
  ];
}

function flow(tableId: number, priority: number, match: string, actions: string): Flow {
  return { table: tableId, priority, cookie: 0, match, actions };
}

function drop(tableId: number, priority: number, match: string): Flow {
  return flow(tableId, priority, match, "drop");
}
