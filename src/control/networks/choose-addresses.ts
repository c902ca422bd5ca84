import type { TemplateNetwork } from "../../db/queries/networks/template-networks.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  findFreeAddresses,
  findPreviousAddresses,
  lockSubnets,
} from "../../db/queries/networks/assign-addresses.ts";
import { type HostSnapshot, NETWORKS_FEATURE } from "../../scheduler/placement/model.ts";
import { type AddressNeed, assignAddresses, type AssignedAddresses } from "./assign-addresses.ts";

/**
 * Chooses addresses for sets that the transaction is about to place. The caller has locked the
 * hosts, places those sets that got addresses, and stores these with `insertAddresses`. Without
 * needs it sends no statement, otherwise it costs one round trip.
 */
async function chooseAddresses(
  tx: Queryable,
  needs: readonly AddressNeed[],
): Promise<AssignedAddresses> {
  const counts = countPerSubnet(needs);
  if (counts.size === 0) return { chosen: [], cursors: [] };
  const ids = [...counts.keys()];
  const wanted = [...counts].map(([subnetId, count]) => ({ subnetId, count }));
  const setIds = needs.map(({ setId }) => setId);
  // Postgres runs them in this order, so the reads see all that earlier holders of the locks wrote.
  const [subnets, previous, free] = await Promise.all([
    lockSubnets(tx, ids),
    findPreviousAddresses(tx, setIds, ids),
    findFreeAddresses(tx, wanted),
  ]);
  return assignAddresses(needs, { subnets, previous, free });
}

/**
 * Chooses addresses for planned placements on locked hosts. Returns the placements without those
 * that lack an address. Sets on hosts without networks need none.
 */
export async function chooseForPlacements<P extends { setId: string; hostId: string }>(
  tx: Queryable,
  placements: readonly P[],
  requests: ReadonlyMap<string, { templateNetworks: readonly TemplateNetwork[] | null }>,
  hosts: ReadonlyMap<string, Pick<HostSnapshot, "features">>,
): Promise<{ placements: P[]; addresses: AssignedAddresses }> {
  const isNetworked = ({ hostId }: P) =>
    hosts.get(hostId)?.features.includes(NETWORKS_FEATURE) ?? false;
  const networked = placements.filter(isNetworked);
  // A set without template networks was read before a host gained the feature. It is planned again.
  const needs = networked.flatMap(({ setId, hostId }) => {
    const templateNetworks = requests.get(setId)?.templateNetworks;
    return templateNetworks ? { setId, hostId, templateNetworks } : [];
  });
  const addresses = await chooseAddresses(tx, needs);
  const complete = new Set(addresses.chosen.map(({ setId }) => setId));
  return {
    placements: placements.filter((each) => !isNetworked(each) || complete.has(each.setId)),
    addresses,
  };
}

function countPerSubnet(needs: readonly AddressNeed[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { templateNetworks } of needs)
    for (const { subnets } of templateNetworks)
      for (const { id } of subnets) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}
