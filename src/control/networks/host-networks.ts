import {
  type HostNetwork,
  type HostService,
  REMOTE_PORTS_MAX,
  SERVICE_MEMBERS_MAX,
  SERVICES_PER_HOST_MAX,
} from "../../contracts/network-driver/network-state.ts";
import type { Log } from "../../lib/log.ts";
import { denyAll, limitHostRules } from "./limit-host-rules.ts";
import type { HostNetworks } from "../../contracts/agent-protocol/host-networks.ts";
import { type HostRule, RULES_PER_HOST_MAX } from "../../contracts/network-driver/host-rule.ts";
import type { NetworkWithRules } from "./read-fleet-network.ts";

/** A network for one host. All hosts share the rules and services: do not change them. */
export interface SharedHostNetwork extends Omit<HostNetwork, "rules" | "services"> {
  rules: readonly HostRule[];
  services: readonly HostService[];
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
        services: sentServices.length < services.length ? sentServices : services,
      };
    },
  );
}

/** Whether the networks of a host are within its limits, so that it gets them without omissions. */
export function areWithinLimits(networks: readonly NetworkWithRules[]): boolean {
  // A network with too many rules has denyAll instead.
  let rulesLeft = RULES_PER_HOST_MAX - networks.length * denyAll.length;
  let portsLeft = REMOTE_PORTS_MAX;
  let servicesLeft = SERVICES_PER_HOST_MAX;
  let membersLeft = SERVICE_MEMBERS_MAX;
  for (const { rules, ports, services } of networks) {
    rulesLeft -= rules.length;
    portsLeft -= ports.length;
    servicesLeft -= services.length;
    for (const { members } of services) membersLeft -= members.length;
  }
  return Math.min(rulesLeft, portsLeft, servicesLeft, membersLeft) >= 0;
}
