import { DEFAULT_NETWORK, type Network } from "../../contracts/api/networks.ts";
import { notFound } from "../../contracts/common/app-error.ts";
import { findNetwork } from "../../db/queries/networks/networks.ts";
import type { ControlContext } from "../runtime/context.ts";
import { ensureDefaultNetwork } from "./default-network.ts";

/** Reads a network of a tenant. Throws not-found. */
export async function getNetwork(
  ctx: ControlContext,
  tenantId: string,
  name: string,
): Promise<Network> {
  if (name === DEFAULT_NETWORK) await ensureDefaultNetwork(ctx, tenantId);
  const network = await findNetwork(ctx.db, tenantId, name);
  if (!network) throw notFound("network");
  return network;
}
