import { deriveMac } from "../../contracts/common/mac-address.ts";
import { readSubnet } from "../../contracts/common/subnet-addresses.ts";
import type { TemplateSubnet } from "../../db/queries/networks/template-networks.ts";
import type {
  ChosenAddress,
  FreeOffsets,
  LockedSubnet,
  QuarantinedAddress,
  SearchCursor,
  WantedAddresses,
  WantedStaticAddress,
} from "../../db/queries/networks/assign-addresses.ts";
import { assert } from "../../lib/assert.ts";
import { formatAddress } from "../../lib/ip/ip-address.ts";

/** A set that needs an address of each subnet of its networks on this host. */
export interface AddressNeed {
  setId: string;
  hostId: string;
  templateNetworks: readonly {
    networkId: string | null;
    subnets: readonly Pick<TemplateSubnet, "id" | "address">[];
  }[];
}

/** The addresses from which sets get theirs. */
export interface AddressSupply {
  subnets: readonly LockedSubnet[];
  free: readonly FreeOffsets[];
  previous: readonly QuarantinedAddress[];
  /** The static addresses that sets can get. */
  statics: readonly (QuarantinedAddress & { isReused: boolean })[];
}

export interface AssignedAddresses {
  chosen: ChosenAddress[];
  cursors: SearchCursor[];
}

/**
 * Assigns to each set one address of each subnet of its networks, in the order of the sets. A set
 * gets the address that it had last, if it is still quarantined. A set without an address in one of
 * its subnets gets none at all, and leaves the addresses to the next sets. A set with a static
 * address gets no other one of that subnet.
 */
export function assignAddresses(
  needs: readonly AddressNeed[],
  supply: AddressSupply,
): AssignedAddresses {
  const subnets = new Map(supply.subnets.map((subnet) => [subnet.id, subnet]));
  const wantedStatics = new Set(listStatics(needs).map(describeAddress));
  const offsets = new Map(
    supply.free.map(({ subnetId, offsets }) => {
      const subnet = subnets.get(subnetId);
      const isDynamic = (offset: number) =>
        !subnet ||
        !wantedStatics.has(describeAddress({ subnetId, address: toAddress(subnet, offset) }));
      return [subnetId, wantedStatics.size === 0 ? offsets : offsets.filter(isDynamic)];
    }),
  );
  const statics = new Map(supply.statics.map((row) => [`${row.setId} ${row.subnetId}`, row]));
  const usedStatics = new Set<string>();
  const previous = new Map(
    supply.previous.map((row) => [`${row.setId} ${row.subnetId}`, row.address]),
  );
  const used = new Map<string, number>();
  const chosen: ChosenAddress[] = [];
  for (const need of needs) {
    const usedHere = new Map<string, number>();
    const findAddress: FindAddress = (subnetId, isStatic) => {
      const subnet = subnets.get(subnetId);
      if (!subnet) return undefined; // deleted since it was read
      if (isStatic) {
        const found = statics.get(`${need.setId} ${subnetId}`);
        return found && !usedStatics.has(describeAddress(found)) ? found : undefined;
      }
      const before = previous.get(`${need.setId} ${subnetId}`);
      if (before !== undefined) return { address: before, isReused: true };
      const place = (used.get(subnetId) ?? 0) + (usedHere.get(subnetId) ?? 0);
      const offset = offsets.get(subnetId)?.[place];
      if (offset === undefined) return undefined;
      usedHere.set(subnetId, (usedHere.get(subnetId) ?? 0) + 1);
      return { address: toAddress(subnet, offset), isReused: false };
    };
    const addresses = chooseForSet(need, findAddress);
    if (!addresses) continue;
    chosen.push(...addresses);
    for (const address of addresses) usedStatics.add(describeAddress(address));
    for (const [subnetId, count] of usedHere) used.set(subnetId, (used.get(subnetId) ?? 0) + count);
  }
  const cursors = [...used].flatMap(([subnetId, count]) => {
    const lastOffset = offsets.get(subnetId)?.[count - 1];
    return lastOffset === undefined ? [] : { subnetId, lastOffset };
  });
  return { chosen, cursors };
}

interface FoundAddress {
  subnetId: string;
  address: string;
  isReused: boolean;
}

type FindAddress = (
  subnetId: string,
  isStatic: boolean,
) => Omit<FoundAddress, "subnetId"> | undefined;

/** The static addresses of these sets. */
export function listStatics(needs: readonly AddressNeed[]): WantedStaticAddress[] {
  return needs.flatMap(({ setId, templateNetworks }) =>
    templateNetworks.flatMap(({ subnets }) =>
      subnets.flatMap(({ id: subnetId, address }) =>
        address === null ? [] : { setId, subnetId, address },
      ),
    ),
  );
}

function describeAddress({ subnetId, address }: { subnetId: string; address: string }): string {
  return `${subnetId} ${address}`;
}

/** The addresses of a set, or undefined if a subnet has none. */
function chooseForSet(
  { setId, hostId, templateNetworks }: AddressNeed,
  findAddress: FindAddress,
): ChosenAddress[] | undefined {
  const chosen: ChosenAddress[] = [];
  for (const [networkIndex, { networkId, subnets }] of templateNetworks.entries()) {
    if (networkId === null || subnets.length === 0) return undefined;
    const found: FoundAddress[] = [];
    for (const { id: subnetId, address: staticAddress } of subnets) {
      const candidate = findAddress(subnetId, staticAddress !== null);
      if (!candidate) return undefined;
      const { address, isReused } = candidate;
      found.push({ subnetId, address, isReused });
    }
    const mac = deriveMac(found.map(({ address }) => address));
    assert(mac, "an interface has an address");
    chosen.push(
      ...found.map((address) => ({ setId, hostId, networkId, networkIndex, mac, ...address })),
    );
  }
  return chosen;
}

/** Counts how often each subnet is named. */
export function countWanted(subnetIds: readonly string[]): WantedAddresses[] {
  const counts = new Map<string, number>();
  for (const id of subnetIds) counts.set(id, (counts.get(id) ?? 0) + 1);
  return [...counts].map(([subnetId, count]) => ({ subnetId, count }));
}

export function toAddress({ family, cidr }: LockedSubnet, offset: number): string {
  return formatAddress({ family, value: readSubnet(cidr).first + BigInt(offset) });
}
