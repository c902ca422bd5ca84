import { AppError, notFound } from "../../contracts/common/app-error.ts";
import { findGatewayOfNetwork, findSetOfNetwork } from "../../db/queries/networks/addresses.ts";
import {
  deleteNetworkRow,
  listServicesOfNetwork,
  lockNetwork,
  lockSubnetsOf,
} from "../../db/queries/networks/networks.ts";
import type { ControlContext } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";

const SERVICES_NAMED_MAX = 5;

/**
 * Deletes a network that no set, service or gateway uses. Throws not-found and state-conflict.
 *
 * The locks of its subnets exclude placements, which assign addresses under the same locks. If a
 * service starts to use the network meanwhile, its sets stay pending: see `listSubnets` in
 * placement-requests.ts.
 */
export async function deleteNetwork(
  ctx: ControlContext,
  tenantId: string,
  name: string,
): Promise<void> {
  await unitOfWork(ctx, async (tx) => {
    const network = await lockNetwork(tx, tenantId, name, true);
    if (!network) throw notFound("network");
    await lockSubnetsOf(tx, network.id);
    const services = await listServicesOfNetwork(tx, tenantId, name, SERVICES_NAMED_MAX + 1);
    if (services.length > 0)
      throw inUse(
        `The network is in use by the services ${describe(services)}. Remove it from their templates first, and delete the sets that use it.`,
      );
    const setId = await findSetOfNetwork(tx, network.id);
    if (setId !== undefined)
      throw inUse(
        `The network is in use: set ${setId} has not left its host yet. Try again later.`,
      );
    const gateway = await findGatewayOfNetwork(tx, network.id);
    if (gateway !== undefined)
      throw inUse(
        `The network is in use: gateway ${gateway} has not left it yet. Try again in some seconds.`,
      );
    await deleteNetworkRow(tx, network.id);
    tx.emit({ kind: "network-deleted", tenantId, data: { network: name } });
  });
}

function describe(names: readonly string[]): string {
  const named = names.slice(0, SERVICES_NAMED_MAX).join(", ");
  return names.length > SERVICES_NAMED_MAX ? `${named} and more` : named;
}

function inUse(detail: string): AppError {
  return new AppError("state-conflict", { detail });
}
