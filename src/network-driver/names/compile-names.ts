import type { HostNetwork } from "../../contracts/network-driver/network-state.ts";
import type { NameClient, NameRecord, NameTable, NameZone } from "../ports/name-server.ts";

type HostService = HostNetwork["services"][number];
type ServiceMember = HostService["members"][number];

export interface NamedNetwork extends Pick<
  HostNetwork,
  "networkId" | "tenantId" | "name" | "services"
> {
  /** The address from which the queries of its sets arrive. Unique on the host. */
  clientAddress: string;
}

/** More addresses would make answers that clients reject. The list of endpoints has all of them. */
export const ENDPOINTS_PER_NAME_MAX = 100;

/** One label of a DNS name. Names of Berth have no upper-case letters. */
const labelPattern = /^[a-z0-9_-]{1,63}$/;

/**
 * Compiles the names of a host. Equal networks in any order give equal tables, and the number of
 * records is linear in services, their ports and their sets.
 *
 * - `web`: the service address in the client's network, or else the addresses of the endpoints.
 * - `web.back`: the same for the network `back` of the tenant, if it is on this host.
 * - `set-01….web`: a set of the service in the client's network, ready or not.
 * - `_http._tcp.web`: the port. Its target is the service, or each endpoint if that has no address.
 *
 * A network's own zone precedes that of its tenant. So the name of a set precedes an equal name of
 * a service in another network. A name that is not valid in DNS is left out.
 */
export function compileNames(networks: readonly NamedNetwork[]): NameTable {
  const sorted = networks.toSorted((a, b) => compare(a.networkId, b.networkId));
  const byTenant = new Map<string, NamedNetwork[]>();
  for (const network of sorted)
    byTenant.set(network.tenantId, [...(byTenant.get(network.tenantId) ?? []), network]);
  return {
    zones: [
      ...sorted.map((network) => toZone(network.networkId, listOwn(network))),
      ...[...byTenant]
        .toSorted(([a], [b]) => compare(a, b))
        .map(([tenantId, own]) => toZone(tenantId, own.flatMap(listQualified))),
    ],
    clients: sorted.map(({ clientAddress, networkId, tenantId }): NameClient => ({
      address: clientAddress,
      zoneIds: [networkId, tenantId],
    })),
  };
}

/** Leaves out a name that is invalid, and the records of a name that an earlier group has. */
function toZone(zoneId: string, groups: readonly (readonly NameRecord[])[]): NameZone {
  const taken = new Set<string>();
  const records = groups.filter(([first]) => {
    if (!first || taken.has(first.name) || !isValid(first.name)) return false;
    taken.add(first.name);
    return true;
  });
  return { zoneId, records: records.flat() };
}

function listOwn({ services }: NamedNetwork): NameRecord[][] {
  return sortServices(services).flatMap((service) => [
    listService(service, service.name),
    ...service.members
      .toSorted((a, b) => compare(a.setId, b.setId))
      .map((member) => toAddresses(nameSet(service, member), member.addresses)),
    ...service.ports.map((port) => {
      const name = `_${port.name}._${port.protocol}.${service.name}`;
      const targets =
        service.addresses.length > 0
          ? [service.name]
          : listEndpoints(service).map((member) => nameSet(service, member));
      const records = targets.map((target): NameRecord => ({
        name,
        type: "SRV",
        port: port.port,
        target,
      }));
      return records.length > 0 ? records : [{ name, type: "none" } satisfies NameRecord];
    }),
  ]);
}

function listQualified({ name: network, services }: NamedNetwork): NameRecord[][] {
  if (!labelPattern.test(network)) return [];
  return sortServices(services).map((service) =>
    listService(service, `${service.name}.${network}`),
  );
}

function listService(service: HostService, name: string): NameRecord[] {
  const addresses =
    service.addresses.length > 0
      ? service.addresses
      : listEndpoints(service).flatMap((member) => member.addresses);
  return toAddresses(name, addresses);
}

function listEndpoints({ members }: HostService): ServiceMember[] {
  return members
    .filter(({ isEndpoint }) => isEndpoint)
    .toSorted((a, b) => compare(a.setId, b.setId))
    .slice(0, ENDPOINTS_PER_NAME_MAX);
}

/** The name of a set begins with the host name of its containers. */
function nameSet({ name }: HostService, { setId }: ServiceMember): string {
  return `${setId.replaceAll("_", "-")}.${name}`;
}

function toAddresses(name: string, addresses: readonly string[]): NameRecord[] {
  if (addresses.length === 0) return [{ name, type: "none" }];
  return addresses.map((address) => ({
    name,
    type: address.includes(":") ? "AAAA" : "A",
    address,
  }));
}

function isValid(name: string): boolean {
  return name.split(".").every((label) => labelPattern.test(label));
}

function sortServices(services: readonly HostService[]): HostService[] {
  return services
    .filter(({ name }) => labelPattern.test(name))
    .toSorted((a, b) => compare(a.name, b.name) || compare(a.serviceId, b.serviceId));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
