import type { GatewayPorts, TrustedPorts } from "../../contracts/network-driver/network-state.ts";
import type {
  FleetNetwork,
  GatewayTarget,
  NetworkPort,
} from "../../db/queries/networks/host-networks.ts";

/** A gateway of a network, with the numbers of the ports of sets to which it leads. */
interface ResolvedGateway extends NetworkPort {
  /** For the gateway itself. Never empty. */
  ports: GatewayPorts;
  /** For the hosts of the sets. */
  trustedPorts: TrustedPorts;
}

type GatewayNetwork = Pick<FleetNetwork, "publishers" | "targets" | "revisedSets">;

/** The gateways of networks, while these are in memory. */
const resolvedGateways = new WeakMap<GatewayNetwork, ResolvedGateway[]>();

/**
 * Finds the ports of sets to which the gateways of a network lead. Each set has the port of its own
 * revision: during a rollout, revisions may have different ones. A gateway whose ports lead nowhere
 * is missing. All hosts of the network share the result.
 */
export function resolveGateways(network: GatewayNetwork): readonly ResolvedGateway[] {
  const known = resolvedGateways.get(network);
  if (known) return known;
  const setIds = new Map(
    network.revisedSets.map((each) => [`${each.serviceId} ${each.revision}`, each.setIds]),
  );
  const targets = new Map(network.targets.map((target) => [keyOf(target), target]));
  const gateways = network.publishers.flatMap(({ published, ...publisher }) => {
    const ports: GatewayPorts = [];
    const trustedPorts = new Map<string, TrustedPorts[number]>();
    for (const { serviceId, name, protocol, hostPort } of published) {
      const target = targets.get(keyOf({ serviceId, name, protocol }));
      if (!target) continue;
      const exceptions = target.exceptions.flatMap(({ revision, port }) =>
        (setIds.get(`${serviceId} ${revision}`) ?? []).map((setId) => ({ setId, port })),
      );
      const { port } = target;
      const more = exceptions.length > 0 ? { exceptions } : {};
      ports.push({ serviceId, protocol, hostPort, port, ...more });
      for (const each of listPorts(target))
        trustedPorts.set(`${serviceId} ${protocol} ${each}`, { serviceId, protocol, port: each });
    }
    return ports.length > 0
      ? [{ ...publisher, ports, trustedPorts: [...trustedPorts.values()] }]
      : [];
  });
  resolvedGateways.set(network, gateways);
  return gateways;
}

function listPorts({ port, exceptions }: GatewayTarget): number[] {
  return [port, ...exceptions.flatMap((each) => each.port ?? [])];
}

function keyOf({
  serviceId,
  name,
  protocol,
}: Pick<GatewayTarget, "serviceId" | "name" | "protocol">): string {
  return `${serviceId} ${name} ${protocol}`;
}
