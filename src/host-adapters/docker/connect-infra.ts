import type Docker from "dockerode";
import { toQueryAddress } from "../../contracts/network-driver/query-address.ts";
import { formatPublishedPorts } from "../../contracts/network-driver/published-ports.ts";
import type { LocalSetSpec } from "../../agent/model/local-set.ts";
import type { JoinedNetwork, JoinedNetworks } from "../../agent/ports/network-port.ts";
import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import { callDocker } from "./call-docker.ts";
import type { DockerContext } from "./docker-context.ts";

const connectTimeoutMs = 20_000;

/**
 * ContainerPort.connectInfra on Docker. It calls the network driver only at the start of the
 * container, so all networks have their interfaces before any process runs.
 */
export async function connectInfra(
  { docker, hostId }: DockerContext,
  set: LocalSetSpec,
  { infraId, networks }: { infraId: string; networks: JoinedNetworks },
  signal: AbortSignal,
): Promise<void> {
  const [first, ...others] = networks;
  let taken = familiesOf(first);
  for (const joined of others) {
    const families = familiesOf(joined);
    const defaultRoutes = families.filter((family) => !taken.includes(family));
    taken = [...taken, ...defaultRoutes];
    await callDocker(
      { phase: "prepare", timeoutMs: connectTimeoutMs },
      signal,
      async (abortSignal) => {
        const EndpointConfig = endpointOf(hostId, set, joined, defaultRoutes);
        const options = { Container: infraId, EndpointConfig };
        const network = docker.getNetwork(joined.dockerNetwork);
        await network.connect({ ...options, abortSignal } as Docker.NetworkConnectOptions);
      },
    );
  }
}

/** The part of a container's creation that says how it joins its first network. */
export function joinNetwork(
  hostId: string,
  set: LocalSetSpec,
  first: JoinedNetwork,
): Pick<Docker.ContainerCreateOptions, "MacAddress" | "NetworkingConfig"> {
  const { attachment, dockerNetwork } = first;
  if (!attachment) return {};
  const endpoint = endpointOf(hostId, set, first, familiesOf(first));
  return {
    // Docker 24 and earlier read it here, and later ones in the endpoint. The driver would choose
    // the same one.
    MacAddress: attachment.mac,
    NetworkingConfig: { EndpointsConfig: { [dockerNetwork]: endpoint } },
  };
}

type Family = 4 | 6;

function familiesOf({ attachment }: JoinedNetwork): Family[] {
  return (attachment?.addresses ?? []).map((address) => (address.includes(":") ? 6 : 4));
}

/**
 * An interface in Docker's terms. Its options let the driver rebuild a network's lost record.
 *
 * The default route of each family leads through the first network of the template that has the
 * family. Docker takes any interface that has a gateway, so the others get none. The published
 * ports are in the network with the default route of IPv4, because answers leave through it.
 */
function endpointOf(
  hostId: string,
  set: LocalSetSpec,
  { attachment }: JoinedNetwork,
  defaultRoutes: readonly Family[],
): Docker.EndpointSettings {
  const ports = defaultRoutes.includes(4) ? (set.hostPorts ?? []) : [];
  if (!attachment) return {};
  const { addresses, gateways, mac, mtu, networkId, vni } = attachment;
  const plain = addresses.map(stripPrefixLength);
  const address6 = plain.find((address) => address.includes(":"));
  const queryAddress =
    address6 !== undefined && gateways.length > 0 ? toQueryAddress(address6) : undefined;
  const address4 = plain.find((address) => !address.includes(":")) ?? queryAddress;
  return {
    IPAMConfig: {
      ...(address4 === undefined ? {} : { IPv4Address: address4 }),
      ...(address6 === undefined ? {} : { IPv6Address: address6 }),
    },
    MacAddress: mac,
    DriverOpts: {
      "berth.set": set.setId,
      "berth.tenant": set.tenant,
      "berth.host": hostId,
      "berth.network": networkId,
      "berth.vni": String(vni),
      ...(mtu === undefined ? {} : { "berth.mtu": String(mtu) }),
      "berth.gateways": gateways.join(","),
      ...(ports.length === 0 ? {} : { "berth.ports": formatPublishedPorts(ports) }),
      "berth.default-routes": defaultRoutes.join(","),
    },
  };
}
