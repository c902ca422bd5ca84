import { stripPrefixLength } from "../../lib/ip/ip-address.ts";
import type { z } from "zod";
import { deriveMac } from "../../contracts/common/mac-address.ts";
import { isQueryAddress } from "../../contracts/network-driver/query-address.ts";
import {
  attachEndpoint,
  detachEndpoint,
  recordEndpoint,
  removeEndpoint,
} from "../endpoints/attach-endpoint.ts";
import type { DriverContext } from "../endpoints/driver-context.ts";
import { DriverError } from "../model/driver-error.ts";
import { type DockerNetwork, type Endpoint } from "../model/driver-records.ts";
import {
  createEndpointSchema,
  createNetworkSchema,
  endpointCallSchema,
  networkSchema,
} from "./docker-bodies.ts";
import { defineCall, type DockerCall } from "./docker-call.ts";

/**
 * Docker's calls for networks and endpoints. Docker repeats a call for up to 30 s if the driver
 * dies, so each is idempotent. Docker joins an endpoint when a container starts, and leaves and
 * deletes it when the container ends.
 */
export function createNetworkCalls(
  ctx: DriverContext,
  { mtu }: { mtu: number },
): Readonly<Record<string, DockerCall>> {
  return {
    "NetworkDriver.GetCapabilities": defineCall(undefined, async () => ({
      Scope: "local",
      ConnectivityScope: "local",
    })),
    "NetworkDriver.CreateNetwork": defineCall(createNetworkSchema, async (body) => {
      await createNetwork(ctx, body, mtu);
      return {};
    }),
    "NetworkDriver.DeleteNetwork": defineCall(networkSchema, async ({ NetworkID }, signal) => {
      await deleteNetwork(ctx, NetworkID, signal);
      return {};
    }),
    "NetworkDriver.CreateEndpoint": defineCall(createEndpointSchema, async (body, signal) =>
      createEndpoint(ctx, body, mtu, signal),
    ),
    "NetworkDriver.EndpointOperInfo": defineCall(undefined, async () => ({ Value: {} })),
    "NetworkDriver.Join": defineCall(endpointCallSchema, async ({ EndpointID }, signal) => {
      const { containerEnd, endpoint } = await attachEndpoint(ctx, EndpointID, signal);
      return {
        InterfaceName: { SrcName: containerEnd, DstPrefix: "eth" },
        Gateway: findGateway(endpoint),
        // No path leads to external IPv6 addresses. Without a default route, connections to them
        // fail immediately, and programs use IPv4.
        GatewayIPv6: "",
        // Otherwise Docker connects a container without a gateway to a bridge of its own.
        DisableGatewayService: true,
      };
    }),
    "NetworkDriver.Leave": defineCall(endpointCallSchema, async ({ EndpointID }, signal) => {
      await detachEndpoint(ctx, EndpointID, signal);
      return {};
    }),
    "NetworkDriver.DeleteEndpoint": defineCall(
      endpointCallSchema,
      async ({ EndpointID }, signal) => {
        await removeEndpoint(ctx, EndpointID, signal);
        return {};
      },
    ),
  };
}

/**
 * The IPv4 gateway through which a container's default route leads, or an empty text for none.
 * Docker gives the default route to any endpoint of the container that has a gateway.
 */
function findGateway({ gateways, defaultRoutes }: Endpoint): string {
  if (defaultRoutes && !defaultRoutes.includes(4)) return "";
  return gateways.find((address) => !address.includes(":") && !isQueryAddress(address)) ?? "";
}

async function createNetwork(
  ctx: DriverContext,
  { NetworkID, Options, IPv4Data, IPv6Data }: z.output<typeof createNetworkSchema>,
  mtu: number,
): Promise<void> {
  const gateways = [...(IPv4Data ?? []), ...(IPv6Data ?? [])].flatMap(({ Gateway }) =>
    Gateway === undefined ? [] : [stripPrefixLength(Gateway)],
  );
  const { "berth.network": networkId, "berth.vni": vni, ...options } = Options ?? {};
  if (networkId === undefined || vni === undefined)
    throw new DriverError(
      "The options berth.network and berth.vni are missing. The driver serves only networks of Berth, which the host's agent creates.",
    );
  const network: DockerNetwork = {
    networkId,
    vni,
    mtu: options["berth.mtu"] ?? mtu,
    gateways,
  };
  checkVni(ctx, network);
  await ctx.records.putNetwork(NetworkID, network);
  await removeReplacedNetworks(ctx, NetworkID, networkId);
}

/**
 * Removes the records of older Docker networks of the same network that have no endpoints. A host
 * has only one for each network. Docker never deletes the record of a network whose creation or
 * deletion was a lost call.
 */
async function removeReplacedNetworks(
  ctx: DriverContext,
  dockerNetworkId: string,
  networkId: string,
): Promise<void> {
  const used = new Set([...ctx.records.endpoints.values()].map((each) => each.dockerNetworkId));
  for (const [otherId, other] of ctx.records.networks)
    if (other.networkId === networkId && otherId !== dockerNetworkId && !used.has(otherId))
      await ctx.records.removeNetwork(otherId);
}

/** Docker deletes only a network without containers, so a crash has left its endpoints. */
async function deleteNetwork(
  ctx: DriverContext,
  dockerNetworkId: string,
  signal: AbortSignal,
): Promise<void> {
  for (const [endpointId, endpoint] of ctx.records.endpoints)
    if (endpoint.dockerNetworkId === dockerNetworkId) await removeEndpoint(ctx, endpointId, signal);
  await ctx.records.removeNetwork(dockerNetworkId);
}

async function createEndpoint(
  ctx: DriverContext,
  { NetworkID, EndpointID, Interface, Options }: z.output<typeof createEndpointSchema>,
  mtu: number,
  signal: AbortSignal,
): Promise<object> {
  const network = ctx.records.networks.get(NetworkID) ?? rebuildNetwork(Options ?? {}, mtu);
  if (!network)
    throw new DriverError(
      "The network driver has no record of this network, because its state file was lost. Remove the Docker network and create it again.",
    );
  const addresses = [Interface?.Address, Interface?.AddressIPv6].filter(
    (address) => address !== undefined,
  );
  const known = addresses.map(stripPrefixLength).filter((address) => !isQueryAddress(address));
  const mac = Interface?.MacAddress ?? deriveMac(known);
  if (mac === undefined || addresses.length === 0)
    throw new DriverError("The endpoint has no address. Specify one with --ip or --ip6.");
  const endpoint: Endpoint = { dockerNetworkId: NetworkID, ...network, mac, addresses };
  const { "berth.set": set, "berth.tenant": tenant, "berth.host": host } = Options ?? {};
  const publishedPorts = Options?.["berth.ports"] ?? [];
  const defaultRoutes = Options?.["berth.default-routes"];
  if (defaultRoutes !== undefined) endpoint.defaultRoutes = defaultRoutes;
  if (set !== undefined) endpoint.set = set;
  if (tenant !== undefined) endpoint.tenant = tenant;
  if (host !== undefined) endpoint.host = host;
  if (publishedPorts.length > 0) endpoint.publishedPorts = publishedPorts;
  if (!ctx.records.networks.has(NetworkID)) {
    checkVni(ctx, network);
    await ctx.records.putNetwork(NetworkID, network);
  }
  await recordEndpoint(ctx, EndpointID, endpoint, signal);
  // Docker refuses an answer that repeats what it has sent.
  return { Interface: Interface?.MacAddress === undefined ? { MacAddress: mac } : {} };
}

/** Rebuilds a lost record of a network from the options of an endpoint, if they have the facts. */
function rebuildNetwork(
  options: Partial<NonNullable<z.output<typeof createEndpointSchema>["Options"]>>,
  mtu: number,
): DockerNetwork | undefined {
  const { "berth.network": networkId, "berth.vni": vni } = options;
  if (networkId === undefined || vni === undefined) return undefined;
  return {
    networkId,
    vni,
    mtu: options["berth.mtu"] ?? mtu,
    gateways: options["berth.gateways"] ?? [],
  };
}

/** Two networks with the same VNI would exchange frames. */
function checkVni(ctx: DriverContext, { networkId, vni }: DockerNetwork): void {
  const others = [...ctx.records.networks.values(), ...ctx.records.endpoints.values()];
  const other = others.find((each) => (each.vni === vni) !== (each.networkId === networkId));
  if (other)
    throw new DriverError(
      `${networkId} cannot have the VNI ${vni}, because this host has ${other.networkId} with the VNI ${other.vni}.`,
    );
}
