import { familyOf } from "./flow-addresses.ts";
import {
  type Flow,
  flowRegisters as register,
  flowTables as table,
  GATEWAY_MAC,
  toNetworkFlow,
} from "./flow.ts";

interface QueryingNetwork {
  vni: number;
  conntrackZone: number;
  gateways: readonly string[];
  deniesNew?: boolean;
}

interface QueryingPort {
  ofPort: number;
  mac: string;
  addresses: readonly string[];
}

/** Above the rules of tenants: they cannot name the name server. */
const egressPriority = 60_000;

/**
 * Leads DNS queries for the IPv4 gateway of a network to the name server of the host, and its
 * answers back. Before connection tracking, the name server replaces the gateway as destination.
 * After it, the gateway replaces the name server as source. In between, a query is like a packet to
 * an external address. Other packets to the gateway stay dropped.
 *
 * A network without an IPv4 gateway has no names.
 */
export function compileNameQueries(
  network: QueryingNetwork,
  local: readonly QueryingPort[],
  server: string,
): Flow[] {
  const gateway = network.gateways.find((address) => familyOf(address) === 4);
  if (gateway === undefined) return [];
  const own = `${register.network}=${network.vni}`;
  const flow = (tableId: number, priority: number, match: string, actions: string): Flow =>
    toNetworkFlow(network, tableId, priority, match, actions);
  const track = `ct(table=${table.egress},zone=${network.conntrackZone})`;
  const flows = ["udp", "tcp"].flatMap((protocol) => {
    // With another MAC address, the packet would reach a set, past the rules of its sender.
    const toGateway = `${protocol},${own},dl_dst=${GATEWAY_MAC}`;
    const query = `${toGateway},nw_dst=${gateway},tp_dst=53`;
    const permitted = `${toGateway},ct_state=+trk+new,nw_dst=${server},tp_dst=53`;
    return [
      flow(table.neighbors, 88, query, `set_field:${server}->nw_dst,${track}`),
      ...(network.deniesNew
        ? []
        : [flow(table.egress, egressPriority, permitted, `goto_table:${table.forward}`)]),
    ];
  });
  const receivers = new Map<string, Flow>();
  for (const { ofPort, mac, addresses } of local) {
    const link = `set_field:${GATEWAY_MAC}->eth_src,set_field:${mac}->eth_dst,output:${ofPort}`;
    const actions = `set_field:${gateway}->nw_src,${link}`;
    for (const address of addresses)
      if (familyOf(address) === 4 && !receivers.has(address))
        receivers.set(
          address,
          flow(table.inbound, 105, `ip,${own},nw_src=${server},nw_dst=${address}`, actions),
        );
  }
  return [...flows, ...receivers.values()];
}
