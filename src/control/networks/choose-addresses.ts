import { setTimeout as delay } from "node:timers/promises";
import type { TemplateNetwork } from "../../db/queries/networks/template-networks.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import {
  claimSubnets,
  findFreeAddresses,
  findPreviousAddresses,
  findStaticAddresses,
  insertAddresses,
} from "../../db/queries/networks/assign-addresses.ts";
import { type HostSnapshot, NETWORKS_FEATURE } from "../../scheduler/placement/model.ts";
import type { SignalChannel, UnitOfWork } from "../runtime/context.ts";
import {
  type AddressNeed,
  assignAddresses,
  type AssignedAddresses,
  countWanted,
  listStatics,
} from "./assign-addresses.ts";

/**
 * The pauses before further attempts to lock subnets. Most holders of the locks end within a few
 * milliseconds. The caller has locked hosts meanwhile, so the pauses are short.
 */
const PAUSES_MS: readonly number[] = [5, 15];

/**
 * `isContended`: a subnet was locked or deleted, or Berth assigns no addresses now because hosts
 * have not reported theirs yet. Sets that need addresses got none.
 */
interface ChosenAddresses extends AssignedAddresses {
  isContended: boolean;
}

/**
 * Chooses addresses for sets that the transaction is about to place. The caller has locked the
 * hosts, places those sets that got addresses, and stores these with `storeAddresses`. Without
 * needs it sends no statement, otherwise it costs one round trip.
 */
async function chooseAddresses(
  tx: Queryable,
  needs: readonly AddressNeed[],
): Promise<ChosenAddresses> {
  const wanted = countWanted(needs.flatMap(listSubnetIds));
  if (wanted.length === 0) return { chosen: [], cursors: [], isContended: false };
  const ids = wanted.map(({ subnetId }) => subnetId);
  const setIds = needs.map(({ setId }) => setId);
  const staticAddresses = listStatics(needs);
  for (let attempt = 0; ; attempt++) {
    // Postgres runs them in this order: the reads see all that earlier holders of the locks wrote.
    const [subnets, previous, free, statics] = await Promise.all([
      claimSubnets(tx, ids),
      findPreviousAddresses(tx, setIds, ids),
      findFreeAddresses(tx, wanted),
      findStaticAddresses(tx, staticAddresses),
    ]);
    const isContended = subnets.length < ids.length;
    const pauseMs = PAUSES_MS[attempt];
    if (!isContended || pauseMs === undefined)
      return { ...assignAddresses(needs, { subnets, previous, free, statics }), isContended };
    await delay(pauseMs);
  }
}

/**
 * Chooses addresses for planned placements on locked hosts. Returns the placements without those
 * that lack an address, also because another transaction has locked a subnet. Sets on hosts without
 * networks need none.
 */
export async function chooseAddressesOfPlacements<P extends { setId: string; hostId: string }>(
  tx: Queryable,
  placements: readonly P[],
  requests: ReadonlyMap<string, { templateNetworks: readonly TemplateNetwork[] | null }>,
  hosts: ReadonlyMap<string, Pick<HostSnapshot, "features">>,
): Promise<{ placements: P[]; addresses: ChosenAddresses }> {
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

/**
 * Stores the addresses of placed sets, and wakes the hosts of their networks: they learn the new
 * ports (`readHostNetworks`).
 */
export async function storeAddresses(
  tx: UnitOfWork,
  { chosen, cursors }: AssignedAddresses,
): Promise<void> {
  tx.signal(...chosen.map(({ networkId }): SignalChannel => `network:${networkId}`));
  await insertAddresses(tx, chosen, cursors);
}

function listSubnetIds({ templateNetworks }: AddressNeed): string[] {
  return templateNetworks.flatMap(({ subnets }) => subnets.map(({ id }) => id));
}
