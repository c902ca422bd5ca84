import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listSubnetRanges } from "../../db/queries/networks/networks.ts";

/**
 * Checks that a template with published ports names a network with an IPv4 subnet, because hosts
 * publish ports over IPv4 only. A default network that does not exist yet is not checked. Without
 * published ports, this runs no statement. Throws invalid-request with a pointer.
 */
export async function assertPublishedFamilies(
  q: Queryable,
  tenantId: string,
  { networks, ports = [] }: Pick<SetTemplate, "networks" | "ports">,
): Promise<void> {
  const position = ports.findIndex(({ publish }) => publish !== undefined);
  if (position === -1) return;
  const names = networks.map(({ network }) => network);
  const known = await listSubnetRanges(q, tenantId, names);
  const canPublish = names.some((name) => {
    const subnets = known.filter(({ network }) => network === name);
    return subnets.length === 0 || subnets.some(({ cidr }) => !cidr.includes(":"));
  });
  if (canPublish) return;
  const detail = `Hosts publish ports over IPv4 only, and no network of the template has an IPv4 subnet: ${names.join(", ")}. Add one, or omit \`publish\`.`;
  throw new AppError("invalid-request", {
    detail,
    errors: [{ pointer: `/template/ports/${position}/publish`, detail }],
  });
}
