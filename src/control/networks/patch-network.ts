import { DEFAULT_NETWORK, type Network, type PatchNetwork } from "../../contracts/api/networks.ts";
import type { CheckedSubnet } from "../../contracts/api/check-subnets.ts";
import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { OffsetRange } from "../../contracts/common/subnet-addresses.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { dropAddressesOutside } from "../../db/queries/networks/addresses.ts";
import {
  findNetwork,
  lockNetwork,
  lockSubnetsOf,
  type NewSubnet,
  replaceSubnets,
  type SubnetRow,
} from "../../db/queries/networks/networks.ts";
import { assert } from "../../lib/assert.ts";
import type { ControlContext } from "../runtime/context.ts";
import { assertGeneration } from "../runtime/preconditions.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { ensureDefaultNetwork } from "./default-network.ts";
import { toNewSubnet } from "./new-subnet.ts";

/**
 * Replaces the subnets of a network at the given generation. A subnet with an equal range of
 * addresses stays, with the addresses of sets.
 *
 * Throws not-found, generation-mismatch, and state-conflict if a set has an address that the change
 * excludes, or the gateway that it changes.
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
      const ranges = after?.gateway === subnet.gateway ? after.ranges : [];
      await assertUnused(tx, subnet, ranges, toPointer(position, after, subnet));
    }
    await replaceSubnets(tx, before.id, stored);
    const data = { network: name, subnets: subnets.map(({ cidr }) => cidr) };
    tx.emit({ kind: "network-changed", tenantId, data });
    const network = await findNetwork(tx, tenantId, name);
    assert(network, "a locked network exists");
    return network;
  });
}

function toStored(subnet: CheckedSubnet, known: readonly SubnetRow[]): NewSubnet {
  const same = known.find(({ cidr }) => cidr === subnet.cidr);
  const changed = toNewSubnet(subnet);
  return same ? { ...changed, id: same.id } : changed;
}

/** The member of the request that excludes an address. */
function toPointer(
  position: number,
  after: CheckedSubnet | undefined,
  before: { gateway: string },
): string {
  if (!after) return "/subnets";
  return after.gateway === before.gateway ? `/subnets/${position}` : `/subnets/${position}/gateway`;
}

/** Throws state-conflict if a set has an address of the subnet outside of these ranges. */
async function assertUnused(
  tx: Queryable,
  subnet: SubnetRow,
  ranges: readonly OffsetRange[],
  pointer: string,
): Promise<void> {
  const taken = await dropAddressesOutside(tx, subnet.id, ranges);
  if (!taken) return;
  const detail = `Set ${taken.setId} has the address ${taken.address} of subnet ${subnet.cidr}. Move or remove the set first.`;
  throw new AppError("state-conflict", { detail, errors: [{ pointer, detail }] });
}
