import {
  formatPublishedPorts,
  splitPublishedPorts,
} from "../../contracts/network-driver/published-ports.ts";
import { dockerIdSchema, type Endpoint, endpointSchema } from "./driver-records.ts";

/**
 * Returns the external ids of a port: a copy of its endpoint's record, from which the driver can
 * rebuild a lost record.
 */
export function toExternalIds(endpointId: string, endpoint: Endpoint): Record<string, string> {
  const { set, tenant, host, publishedPorts, defaultRoutes } = endpoint;
  return {
    "berth-endpoint": endpointId,
    "berth-docker-network": endpoint.dockerNetworkId,
    "berth-network": endpoint.networkId,
    "berth-vni": String(endpoint.vni),
    "berth-mtu": String(endpoint.mtu),
    "berth-mac": endpoint.mac,
    "berth-addresses": endpoint.addresses.join(","),
    "berth-gateways": endpoint.gateways.join(","),
    ...(defaultRoutes === undefined ? {} : { "berth-default-routes": defaultRoutes.join(",") }),
    ...(set === undefined ? {} : { "berth-set": set }),
    ...(tenant === undefined ? {} : { "berth-tenant": tenant }),
    ...(host === undefined ? {} : { "berth-host": host }),
    ...(publishedPorts ? { "berth-ports": formatPublishedPorts(publishedPorts) } : {}),
  };
}

/** Reads what `toExternalIds` wrote. Returns undefined unless it is complete and valid. */
export function readExternalIds(
  ids: Readonly<Record<string, string>>,
): { endpointId: string; endpoint: Endpoint } | undefined {
  const endpointId = dockerIdSchema.safeParse(ids["berth-endpoint"]);
  const endpoint = endpointSchema.safeParse({
    dockerNetworkId: ids["berth-docker-network"],
    networkId: ids["berth-network"],
    vni: Number(ids["berth-vni"]),
    mtu: Number(ids["berth-mtu"]),
    mac: ids["berth-mac"],
    addresses: readList(ids["berth-addresses"]),
    gateways: readList(ids["berth-gateways"]),
    ...readDefaultRoutes(ids["berth-default-routes"]),
    ...readOptional("set", ids),
    ...readOptional("tenant", ids),
    ...readOptional("host", ids),
    ...(ids["berth-ports"] === undefined
      ? {}
      : { publishedPorts: splitPublishedPorts(ids["berth-ports"]) }),
  });
  if (!endpointId.success || !endpoint.success) return undefined;
  return { endpointId: endpointId.data, endpoint: endpoint.data };
}

function readList(text: string | undefined): string[] {
  return text === undefined || text === "" ? [] : text.split(",");
}

function readDefaultRoutes(text: string | undefined): object {
  return text === undefined ? {} : { defaultRoutes: readList(text).map(Number) };
}

function readOptional(name: string, ids: Readonly<Record<string, string>>): object {
  const value = ids[`berth-${name}`];
  return value === undefined ? {} : { [name]: value };
}
