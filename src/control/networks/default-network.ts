import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { DEFAULT_NETWORK } from "../../contracts/api/networks.ts";
import {
  type TemplateNetwork,
  listTemplateNetworks,
} from "../../db/queries/networks/template-networks.ts";
import { type DueSets, readPendingSets } from "../../db/queries/placement/due-sets.ts";
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

/** Creates the default network if a template has a static address in it, which is then checked. */
export async function ensureStaticDefaultNetwork(
  ctx: ControlContext,
  tenantId: string,
  template: Pick<SetTemplate, "networks"> | undefined,
): Promise<void> {
  const isNeeded = template?.networks.some(
    ({ network, address }) => network === DEFAULT_NETWORK && address !== undefined,
  );
  if (isNeeded) await ensureDefaultNetwork(ctx, tenantId);
}

/**
 * Creates the missing default networks of the tenants of due sets, and then reads these sets again.
 * Without a networked host it does nothing.
 */
export async function ensureDefaultNetworks(
  tx: UnitOfWork,
  ctx: Pick<ControlContext, "settings">,
  due: DueSets,
): Promise<DueSets> {
  const lacking = due.specs.filter(({ templateNetworks }) =>
    templateNetworks?.some(isMissingDefault),
  );
  if (lacking.length === 0) return due;
  await insertDefaultNetworks(tx, ctx, [...new Set(lacking.map(({ tenantId }) => tenantId))]);
  const { sets, specs } = await readPendingSets(
    tx,
    due.sets.map(({ id }) => id),
  );
  return { sets, specs, hasMore: due.hasMore };
}

/**
 * Lists the networks of a template, and creates the default network that it needs. Returns null
 * without a networked host.
 */
export async function ensureTemplateNetworks(
  tx: UnitOfWork,
  ctx: Pick<ControlContext, "settings">,
  service: { tenantId: string; serviceId: string },
  networks: SetTemplate["networks"],
): Promise<TemplateNetwork[] | null> {
  const templateNetworks = await listTemplateNetworks(tx, service, networks);
  if (!templateNetworks?.some(isMissingDefault)) return templateNetworks;
  await insertDefaultNetworks(tx, ctx, [service.tenantId]);
  return listTemplateNetworks(tx, service, networks);
}

export function isMissingDefault({ network, networkId }: TemplateNetwork): boolean {
  return network === DEFAULT_NETWORK && networkId === null;
}

/** Inserts the missing default networks of these tenants. Tenants may have equal subnets. */
export async function insertDefaultNetworks(
  tx: UnitOfWork,
  { settings }: Pick<ControlContext, "settings">,
  tenantIds: readonly string[],
): Promise<void> {
  const added = tenantIds.map((tenantId) => ({
    id: newId("net"),
    tenantId,
    name: DEFAULT_NETWORK,
    subnets: settings.defaultNetworkSubnets.map(toNewSubnet),
  }));
  const inserted = new Set(await insertNetworks(tx, added));
  const subnets = settings.defaultNetworkSubnets.map(({ cidr }) => cidr);
  for (const { id, tenantId } of added) {
    if (!inserted.has(id)) continue; // a concurrent transaction was first
    tx.emit({ kind: "network-created", tenantId, data: { network: DEFAULT_NETWORK, subnets } });
  }
}
