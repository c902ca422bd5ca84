import {
  GATEWAY_PORTS_MAX,
  GATEWAY_TARGETS_MAX,
  type GatewayPorts,
  type HostNetwork,
  type HostService,
  REMOTE_PORTS_MAX,
  SERVICE_MEMBERS_MAX,
  SERVICES_PER_HOST_MAX,
  type TrustedPorts,
} from "../../contracts/network-driver/network-state.ts";
import type { NetworkPort } from "../../db/queries/networks/host-networks.ts";
import type { Log } from "../../lib/log.ts";
import { denyAll, limitHostRules } from "./limit-host-rules.ts";
import type { HostNetworks } from "../../contracts/agent-protocol/host-networks.ts";
import { type HostRule, RULES_PER_HOST_MAX } from "../../contracts/network-driver/host-rule.ts";
import type { NetworkWithRules } from "./read-fleet-network.ts";
import { resolveGateways } from "./resolve-gateways.ts";

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
 *
 * A host of an earlier release does not know gateways. It gets none of its own, and those of other
 * hosts as any other port of the network.
 */
export function toHostNetworks(
  networks: readonly NetworkWithRules[],
  hostId: string,
  log: Log,
  { knowsGateways = false }: { knowsGateways?: boolean } = {},
): SharedHostNetwork[] {
  let portsLeft = REMOTE_PORTS_MAX;
  let servicesLeft = SERVICES_PER_HOST_MAX;
  let membersLeft = SERVICE_MEMBERS_MAX;
  const limitPorts = limitGatewayPorts(hostId, log);
  const { rules: rulesOf, refusedNetworkIds } = limitHostRules(networks);
  if (refusedNetworkIds.length > 0)
    log.error({ hostId, networkIds: refusedNetworkIds }, "a host has too many rules");
  return networks.map((network) => {
    const { networkId, tenantId, name, vni, services, endConnectionsCount } = network;
    const remotePorts: HostNetwork["remotePorts"] = [];
    const add = (other: NetworkPort, more: { trustedPorts?: TrustedPorts } = {}): void => {
      const { mac, addresses, tunnelAddress } = other;
      if (other.hostId === hostId || tunnelAddress === null) return;
      if (portsLeft-- > 0) remotePorts.push({ mac, addresses, tunnelAddress, ...more });
    };
    for (const port of network.ports) add(port);
    const gateways = resolveGateways(network);
    for (const gateway of gateways) {
      const trustedPorts = gateway.trustedPorts.slice(0, GATEWAY_PORTS_MAX);
      add(gateway, knowsGateways ? { trustedPorts } : {});
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
    const own = knowsGateways ? gateways.find((each) => each.hostId === hostId) : undefined;
    const [address] = own?.addresses ?? [];
    const ports = own ? limitPorts(networkId, own.ports, sentServices) : [];
    return {
      networkId,
      tenantId,
      name,
      vni,
      gateways: network.gateways,
      rules: rulesOf.get(networkId) ?? [],
      endConnectionsCount,
      remotePorts,
      services: sentServices.length < services.length ? sentServices : services,
      ...(address !== undefined && ports.length > 0 ? { gateway: { address, ports } } : {}),
    };
  });
}

/**
 * Returns a function that leaves out ports of a gateway that lead to too many sets, in all of its
 * networks. The sweep of gateways counts the desired sets, and a rollout may have more.
 */
function limitGatewayPorts(hostId: string, log: Log) {
  let targetsLeft = GATEWAY_TARGETS_MAX;
  return (
    networkId: string,
    ports: GatewayPorts,
    services: readonly HostService[],
  ): GatewayPorts => {
    const sizes = new Map(services.map(({ serviceId, members }) => [serviceId, members.length]));
    const sent = ports.slice(0, GATEWAY_PORTS_MAX).filter(({ serviceId }) => {
      const size = sizes.get(serviceId) ?? 0;
      if (size > targetsLeft) return false;
      targetsLeft -= size;
      return true;
    });
    if (sent.length < ports.length)
      log.error({ hostId, networkId }, "the ports of a gateway lead to too many sets");
    return sent;
  };
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
