import { DEFAULT_NETWORK, type Network, type PatchNetwork } from "../../contracts/api/networks.ts";
import type { CheckedSubnet } from "../../contracts/api/check-subnets.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import {
  dropAddressesOutside,
  findSetOfNetwork,
  type HeldAddress,
} from "../../db/queries/networks/addresses.ts";
import {
  findNetwork,
  lockNetwork,
  lockSubnetsOf,
  type NewSubnet,
  replaceSubnets,
  type SubnetRow,
} from "../../db/queries/networks/networks.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { ensureDefaultNetwork } from "./default-network.ts";
import { toNewSubnet } from "./new-subnet.ts";

const ALL_OFFSETS = [[0, Number.MAX_SAFE_INTEGER]] as const;

/**
 * Replaces the subnets of a network at the given generation. A subnet with the same `cidr` keeps
 * its id and the addresses of its sets.
 *
 * Services of a removed subnet lose their addresses, and get new ones.
 *
 * Throws not-found and generation-mismatch. Throws state-conflict if the change excludes an address
 * of a set or of a service, or gives a subnet with sets another gateway.
 */
export async function patchNetwork(
  ctx: ControlContext,
  tenantId: string,
  name: string,
  generation: number | undefined,
  { subnets }: PatchNetwork,
): Promise<Network> {
  if (name === DEFAULT_NETWORK) await ensureDefaultNetwork(ctx, tenantId);
  return unitOfWork(ctx, async (tx) => {
    const before = await lockNetwork(tx, tenantId, name);
    if (!before) throw notFound("network");
    assertGeneration(before, generation, "network");
    const known = await lockSubnetsOf(tx, before.id);
    const stored = subnets.map((subnet) => toStored(subnet, known));
    for (const subnet of known) {
      const position = stored.findIndex(({ id }) => id === subnet.id);
      const after = stored[position];
      const hasNewGateway = after !== undefined && after.gateway !== subnet.gateway;
      const ranges = hasNewGateway ? [] : (after?.ranges ?? []);
      // A removed subnet has no sets, and its service addresses go with it.
      const serviceRanges = after?.ranges ?? ALL_OFFSETS;
      const assigned = await dropAddressesOutside(tx, subnet.id, ranges, serviceRanges);
      if (!assigned) continue;
      const detail = describeConflict(assigned, subnet.cidr, hasNewGateway);
      const pointer = toPointer(position, hasNewGateway);
      throw new AppError("state-conflict", { detail, errors: [{ pointer, detail }] });
    }
    await assertNoNewSubnet(tx, before.id, { stored, known });
    await replaceSubnets(tx, before.id, stored);
    const data = { network: name, subnets: subnets.map(({ cidr }) => cidr) };
    tx.emit({ kind: "network-changed", tenantId, data });
    tx.signal(`network:${before.id}`);
    const network = await findNetwork(tx, tenantId, name);
    assert(network, "a locked network exists");
    return network;
  });
}

/**
 * A host has one Docker network for each network, with all its subnets. It cannot get another
 * subnet while a container uses it.
 */
async function assertNoNewSubnet(
  tx: UnitOfWork,
  networkId: string,
  { stored, known }: { stored: readonly NewSubnet[]; known: readonly SubnetRow[] },
): Promise<void> {
  const position = stored.findIndex(({ id }) => known.every((subnet) => subnet.id !== id));
  if (position < 0 || known.length === 0) return;
  const setId = await findSetOfNetwork(tx, networkId);
  if (setId === undefined) return;
  const detail = `The network has sets, such as ${setId}, so it gets no new subnet. Create another network with both subnets.`;
  throw new AppError("state-conflict", {
    detail,
    errors: [{ pointer: `/subnets/${position}`, detail }],
  });
}

function toStored(subnet: CheckedSubnet, known: readonly SubnetRow[]): NewSubnet {
  const same = known.find(({ cidr }) => cidr === subnet.cidr);
  const changed = toNewSubnet(subnet);
  return same ? { ...changed, id: same.id } : changed;
}

/** The member of the request that excludes an address. The position is -1 without the subnet. */
function toPointer(position: number, hasNewGateway: boolean): string {
  if (position < 0) return "/subnets";
  return hasNewGateway ? `/subnets/${position}/gateway` : `/subnets/${position}`;
}

function describeConflict(
  { setId, service, address }: HeldAddress,
  cidr: string,
  hasNewGateway: boolean,
): string {
  if (setId === null && service === null)
    return `A gateway has the address ${address} of subnet ${cidr}, which this change excludes. Remove \`gatewayPorts\` from the services of the network first, or keep the address in the pools and out of the reservations.`;
  if (setId === null)
    return `Service ${service} has the service address ${address} of subnet ${cidr}, which this change excludes. Delete the service first, or keep the address in the pools and out of the reservations.`;
  return hasNewGateway
    ? `Subnet ${cidr} has sets, so its gateway cannot change. Delete its sets first: set ${setId} has the address ${address}.`
    : `Set ${setId} has the address ${address} of subnet ${cidr}, which this change excludes. Delete the set first, or keep the address in the pools and out of the reservations.`;
}
