import type { PublishedPort } from "../../contracts/network-driver/published-ports.ts";
import { familyOf } from "./flow-addresses.ts";
import {
  type Flow,
  flowRegisters as register,
  flowTables as table,
  GATEWAY_MAC,
  load,
  portInRegister,
  toNetworkFlow,
} from "./flow.ts";

interface PublishingPort {
  ofPort: number;
  mac: string;
  addresses: readonly string[];
  publishedPorts?: readonly PublishedPort[] | undefined;
}

/**
 * Compiles the flows of published ports. The host sends a connection to one of its ports through
 * the uplink. Its packets have the address that stands for the network, and the port of the host.
 *
 * The table `inbound` gives the packet the address and port of the set, so that the rules see the
 * real receiver. The table `output` restores the packet and commits the connection with the
 * translation. Later packets and answers get the translation from connection tracking. In the
 * netdev datapath, this includes packets before the first answer, which still count as new.
 *
 * If several ports publish one port of the host, the first one has it.
 */
export function compilePublished(
  { vni, conntrackZone }: { vni: number; conntrackZone: number },
  local: readonly PublishingPort[],
  uplinkAddress: string,
): Flow[] {
  const flows = new Map<string, Flow[]>();
  for (const { ofPort, mac, addresses, publishedPorts = [] } of local) {
    const address = addresses.find((each) => familyOf(each) === 4);
    if (address === undefined) continue;
    for (const { protocol, hostPort, port } of publishedPorts) {
      const key = `${protocol}/${hostPort}`;
      if (flows.has(key)) continue;
      const opened = `${protocol},ct_state=+trk+new,${register.network}=${vni}`;
      const flow = (tableId: number, match: string, actions: readonly string[]): Flow =>
        toNetworkFlow({ vni }, tableId, 120, `${opened},${match}`, actions.join(","));
      flows.set(key, [
        flow(table.inbound, `nw_dst=${uplinkAddress},tp_dst=${hostPort}`, [
          load(hostPort, register.hostPort),
          load(1, register.isExternal),
          `set_field:${GATEWAY_MAC}->eth_src`,
          `set_field:${mac}->eth_dst`,
          `set_field:${address}->nw_dst`,
          `set_field:${port}->${protocol}_dst`,
          `resubmit(,${table.forward})`,
        ]),
        flow(table.output, `${register.hostPort}=${hostPort}`, [
          `set_field:${uplinkAddress}->nw_dst`,
          `set_field:${hostPort}->${protocol}_dst`,
          `ct(commit,zone=${conntrackZone},nat(dst=${address}:${port}))`,
          `output:${portInRegister}`,
        ]),
        flow(table.inbound, `nw_dst=${address},tp_dst=${port}`, [
          `set_field:${GATEWAY_MAC}->eth_src`,
          `set_field:${mac}->eth_dst`,
          `output:${ofPort}`,
        ]),
      ]);
    }
  }
  return [...flows.values()].flat();
}
