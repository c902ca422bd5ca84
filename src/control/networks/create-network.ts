import {
  type CreateNetwork,
  type Network,
  NETWORKS_PER_TENANT_MAX,
} from "../../contracts/api/networks.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { countNetworks, findNetwork, insertNetworks } from "../../db/queries/networks/networks.ts";
import { lockTenant } from "../../db/queries/tenancy/tenant-usage.ts";
import { assert } from "../../lib/assert.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { toNewSubnet } from "./new-subnet.ts";

/** Creates a network of a tenant. Throws already-exists and quota-exceeded. */
export async function createNetwork(
  ctx: ControlContext,
  tenantId: string,
  { name, subnets }: CreateNetwork,
): Promise<Network> {
  return unitOfWork(ctx, async (tx) => {
    await lockTenant(tx, tenantId);
    if ((await countNetworks(tx, tenantId)) >= NETWORKS_PER_TENANT_MAX) {
      throw new AppError("quota-exceeded", {
        detail: `The tenant has ${NETWORKS_PER_TENANT_MAX} networks, the maximum. Delete one first.`,
      });
    }
    const created = { id: newId("net"), tenantId, name, subnets: subnets.map(toNewSubnet) };
    if ((await insertNetworks(tx, [created])).length === 0) {
      throw new AppError("already-exists", { detail: "A network of this name already exists." });
    }
    const data = { network: name, subnets: subnets.map(({ cidr }) => cidr) };
    tx.emit({ kind: "network-created", tenantId, data });
    const network = await findNetwork(tx, tenantId, name);
    assert(network, "an inserted network is there");
    return network;
  });
}
