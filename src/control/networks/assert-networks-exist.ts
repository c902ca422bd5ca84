import { usesOnlyDefaultNetwork } from "../../contracts/agent-protocol/agent-features.ts";
import { DEFAULT_NETWORK } from "../../contracts/api/networks.ts";
import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { assertPublishedFamilies } from "./assert-published-families.ts";
import { assertStaticAddresses } from "./assert-static-addresses.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listNetworkNames } from "../../db/queries/networks/networks.ts";

/**
 * Checks that the tenant has the networks that a template names, and that sets can get its static
 * addresses and published ports there. With `isLocking`, no other transaction can delete them
 * before the end of this one. If the template names only the default
 * network, this runs no statement. Throws invalid-request with pointers.
 */
export async function assertNetworksExist(
  q: Queryable,
  tenantId: string,
  { networks, ports }: Pick<SetTemplate, "networks" | "ports">,
  { isLocking = true }: { isLocking?: boolean } = {},
): Promise<void> {
  if (usesOnlyDefaultNetwork(networks)) return;
  const names = networks.map(({ network }) => network);
  const known = new Set([
    DEFAULT_NETWORK,
    ...(await listNetworkNames(q, tenantId, names, isLocking)),
  ]);
  const errors = names.flatMap((name, position) =>
    known.has(name)
      ? []
      : {
          pointer: `/template/networks/${position}/network`,
          detail: `The tenant has no network ${name}. Create it with \`berth network create\`.`,
        },
  );
  if (errors.length === 0) {
    await assertStaticAddresses(q, tenantId, { networks });
    return assertPublishedFamilies(q, tenantId, { networks, ports });
  }
  throw new AppError("invalid-request", {
    detail: errors.map(({ detail }) => detail).join(" "),
    errors,
  });
}
