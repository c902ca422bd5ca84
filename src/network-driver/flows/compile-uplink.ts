import { familyOf } from "./flow-addresses.ts";
import {
  type Flow,
  flowRegisters as register,
  flowTables as table,
  GATEWAY_MAC,
  load,
  toNetworkFlow,
  UPLINK_MAC,
} from "./flow.ts";

interface UplinkNetwork {
  vni: number;
  conntrackZone: number;
  gateways: readonly string[];
}

interface UplinkPort {
  ofPort: number;
  mac: string;
  addresses: readonly string[];
}

/**
 * Sends IPv4 packets of local ports for the gateway's MAC address to the uplink, with `address` as
 * source. Commits their connections with this translation. Answers to that
 * address return to the port. Only connections to published ports also enter: see
 * compile-published.ts.
 */
export function compileUplink(
  network: UplinkNetwork,
  local: readonly UplinkPort[],
  { ofPort, address: source }: { ofPort: number; address: string },
): Flow[] {
  const { vni, conntrackZone, gateways } = network;
  const loadNetwork = `${load(vni, register.network)},${load(conntrackZone, register.zone)}`;
  const own = `ip,${register.network}=${vni}`;
  const leave = `set_field:${GATEWAY_MAC}->eth_src,set_field:${UPLINK_MAC}->eth_dst`;
  const toUplink = `${leave},${load(ofPort, register.port)},goto_table:${table.protect}`;
  const translate = `ct(commit,zone=${conntrackZone},nat(src=${source})),output:${ofPort}`;
  const untranslate = `${loadNetwork},ct(table=${table.inbound},zone=${conntrackZone},nat)`;
  const flows = [
    toNetworkFlow(
      network,
      table.forward,
      100,
      `${own},${register.isRemote}=0,dl_dst=${GATEWAY_MAC}`,
      toUplink,
    ),
    toNetworkFlow(network, table.outbound, 100, `${own},ct_state=+trk+new`, translate),
    toNetworkFlow(
      network,
      table.classify,
      100,
      `ip,in_port=${ofPort},nw_dst=${source}`,
      untranslate,
    ),
  ];
  // A gateway is only an address, so a packet for it must not leave.
  for (const address of gateways.filter((gateway) => familyOf(gateway) === 4))
    flows.push(toNetworkFlow(network, table.protect, 110, `${own},nw_dst=${address}`, "drop"));
  const receivers = new Map<string, Flow>();
  for (const { ofPort: port, mac, addresses } of local) {
    const actions = `set_field:${GATEWAY_MAC}->eth_src,set_field:${mac}->eth_dst,output:${port}`;
    for (const address of addresses)
      if (familyOf(address) === 4 && !receivers.has(address))
        receivers.set(
          address,
          toNetworkFlow(network, table.inbound, 100, `${own},nw_dst=${address}`, actions),
        );
  }
  return [...flows, ...receivers.values()];
}
