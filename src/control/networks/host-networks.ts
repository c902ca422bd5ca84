import {
  type HostNetwork,
  REMOTE_PORTS_MAX,
  SERVICE_MEMBERS_MAX,
  SERVICES_PER_HOST_MAX,
} from "../../contracts/network-driver/network-state.ts";
import type { Log } from "../../lib/log.ts";
import { limitHostRules } from "./limit-host-rules.ts";
import type { HostNetworks } from "../../contracts/agent-protocol/host-networks.ts";
import type { HostRule } from "../../contracts/network-driver/host-rule.ts";
import type { NetworkWithRules } from "./read-fleet-network.ts";

/** A network for one host. All hosts share the list of rules: do not change it. */
export interface SharedHostNetwork extends Omit<HostNetwork, "rules"> {
  rules: readonly HostRule[];
}

/** The answer to a host. */
export interface SharedHostNetworks extends Omit<HostNetworks, "networks"> {
  networks: SharedHostNetwork[] | null;
}

/**
 * The networks as a host gets them: without its own ports, and without ports of hosts that have no
 * tunnel address. Leaves out what exceeds the limits of the driver, and logs it.
 */
export function toHostNetworks(
  networks: readonly NetworkWithRules[],
  hostId: string,
  log: Log,
): SharedHostNetwork[] {
  let portsLeft = REMOTE_PORTS_MAX;
  let servicesLeft = SERVICES_PER_HOST_MAX;
  let membersLeft = SERVICE_MEMBERS_MAX;
  const { rules: rulesOf, refusedNetworkIds } = limitHostRules(networks);
  if (refusedNetworkIds.length > 0)
    log.error({ hostId, networkIds: refusedNetworkIds }, "a host has too many rules");
  return networks.map(
    ({ networkId, tenantId, name, vni, gateways, ports, services, endConnectionsCount }) => {
      const remotePorts: HostNetwork["remotePorts"] = [];
      for (const { tunnelAddress, mac, addresses, ...port } of ports) {
        if (port.hostId === hostId || tunnelAddress === null) continue;
        if (portsLeft-- > 0) remotePorts.push({ mac, addresses, tunnelAddress });
      }
      const sentServices = services.filter(({ members }) => {
        if (servicesLeft < 1 || membersLeft < members.length) return false;
        servicesLeft -= 1;
        membersLeft -= members.length;
        return true;
      });
      if (portsLeft < 0) log.error({ hostId, networkId }, "a host has too many remote ports");
      if (sentServices.length < services.length)
        log.error({ hostId, networkId }, "a host has too many services in its networks");
      return {
        networkId,
        tenantId,
        name,
        vni,
        gateways,
        rules: rulesOf.get(networkId) ?? [],
        endConnectionsCount,
        remotePorts,
        services: sentServices,
      };
    },
  );
}
