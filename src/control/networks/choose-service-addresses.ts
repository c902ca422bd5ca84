import type {
  FreeOffsets,
  LockedSubnet,
  SearchCursor,
} from "../../db/queries/networks/assign-addresses.ts";
import type {
  ChosenServiceAddress,
  PreviousServiceAddress,
  ServiceToAddress,
} from "../../db/queries/networks/service-addresses.ts";
import { toAddress } from "./assign-addresses.ts";

/** A subnet of a template's network in which a service has no address. */
export interface ServiceNeed {
  serviceId: string;
  network: string;
  networkId: string;
  subnetId: string;
}

/** The subnets in which these services need an address, in the order of the services. */
export function listServiceNeeds(services: readonly ServiceToAddress[]): ServiceNeed[] {
  return services.flatMap(({ id, networks, held }) => {
    const heldIds = new Set(held.map(({ subnetId }) => subnetId));
    return networks.flatMap(({ network, networkId, subnets }) =>
      networkId === null
        ? []
        : subnets
            .filter((subnet) => !heldIds.has(subnet.id))
            .map((subnet) => ({ serviceId: id, network, networkId, subnetId: subnet.id })),
    );
  });
}

/** The addresses of services in networks that their templates do not name. */
export function listUnwanted(
  services: readonly ServiceToAddress[],
): { serviceId: string; subnetId: string }[] {
  return services.flatMap(({ id, networks, held }) => {
    const wanted = new Set(networks.map(({ networkId }) => networkId));
    return held
      .filter(({ networkId }) => !wanted.has(networkId))
      .map(({ subnetId }) => ({ serviceId: id, subnetId }));
  });
}

export interface ChosenForServices {
  chosen: ChosenServiceAddress[];
  cursors: SearchCursor[];
  /** The subnet has no free address. */
  exhausted: ServiceNeed[];
  /** Another transaction has locked the subnet, or deleted it. */
  contended: ServiceNeed[];
}

/**
 * Chooses an address for each need. A service gets the address that it had last, if it is still
 * quarantined.
 */
export function chooseServiceAddresses(
  needs: readonly ServiceNeed[],
  supply: {
    subnets: readonly LockedSubnet[];
    free: readonly FreeOffsets[];
    previous: readonly PreviousServiceAddress[];
  },
): ChosenForServices {
  const subnets = new Map(supply.subnets.map((subnet) => [subnet.id, subnet]));
  const free = new Map(supply.free.map(({ subnetId, offsets }) => [subnetId, [...offsets]]));
  const previous = new Map(
    supply.previous.map((row) => [`${row.serviceId} ${row.subnetId}`, row.address]),
  );
  const lastOffsets = new Map<string, number>();
  const result: ChosenForServices = { chosen: [], cursors: [], exhausted: [], contended: [] };
  for (const need of needs) {
    const { serviceId, subnetId, networkId } = need;
    const subnet = subnets.get(subnetId);
    if (!subnet) {
      result.contended.push(need);
      continue;
    }
    const before = previous.get(`${serviceId} ${subnetId}`);
    const offset = before === undefined ? free.get(subnetId)?.shift() : undefined;
    if (offset !== undefined) lastOffsets.set(subnetId, offset);
    const address = before ?? (offset === undefined ? undefined : toAddress(subnet, offset));
    if (address === undefined) result.exhausted.push(need);
    else
      result.chosen.push({
        serviceId,
        networkId,
        subnetId,
        address,
        isReused: before !== undefined,
      });
  }
  result.cursors = [...lastOffsets].map(([subnetId, lastOffset]) => ({ subnetId, lastOffset }));
  return result;
}
