import { DEFAULT_NETWORK } from "../../contracts/api/networks.ts";
import { hasNetwork, insertNetworks } from "../../db/queries/networks/networks.ts";
import { newId } from "../../lib/ids.ts";
import type { ControlContext, UnitOfWork } from "../runtime/context.ts";
import { unitOfWork } from "../runtime/unit-of-work.ts";
import { toNewSubnet } from "./new-subnet.ts";

/** Creates the default network of a tenant, unless it exists. Most calls cost one key read. */
export async function ensureDefaultNetwork(ctx: ControlContext, tenantId: string): Promise<void> {
  if (await hasNetwork(ctx.db, tenantId, DEFAULT_NETWORK)) return;
  await unitOfWork(ctx, (tx) => insertDefaultNetworks(tx, ctx, [tenantId]));
}

/** Inserts the missing default networks of these tenants. Tenants may have equal subnets. */
export async function insertDefaultNetworks(
  tx: UnitOfWork,
  { settings }: Pick<ControlContext, "settings">,
  tenantIds: readonly string[],
): Promise<void> {
  const created = tenantIds.map((tenantId) => ({
    id: newId("net"),
    tenantId,
    name: DEFAULT_NETWORK,
    subnets: settings.defaultNetworkSubnets.map(toNewSubnet),
  }));
  const inserted = new Set(await insertNetworks(tx, created));
  const subnets = settings.defaultNetworkSubnets.map(({ cidr }) => cidr);
  for (const { id, tenantId } of created) {
    if (!inserted.has(id)) continue; // a concurrent transaction was first
    tx.emit({ kind: "network-created", tenantId, data: { network: DEFAULT_NETWORK, subnets } });
  }
}
