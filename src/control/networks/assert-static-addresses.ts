import type { SetTemplate } from "../../contracts/api/set-template.ts";
import { AppError } from "../../contracts/common/app-error.ts";
import { isAssignable, readSubnet } from "../../contracts/common/subnet-addresses.ts";
import type { Queryable } from "../../db/postgres/open-postgres.ts";
import { listSubnetRanges, type SubnetRanges } from "../../db/queries/networks/networks.ts";
import { contains, parseAddress } from "../../lib/ip/ip-address.ts";

/**
 * Checks that sets can get the static addresses of a template: a subnet of the network has the
 * address, and does not exclude it. A default network that does not exist yet is not checked.
 * Without static addresses, this runs no statement. Throws invalid-request with pointers.
 */
export async function assertStaticAddresses(
  q: Queryable,
  tenantId: string,
  { networks }: Pick<SetTemplate, "networks">,
): Promise<void> {
  const names = networks.flatMap(({ network, address }) => (address === undefined ? [] : network));
  if (names.length === 0) return;
  const known = await listSubnetRanges(q, tenantId, names);
  const errors = networks.flatMap(({ network, address }, position) => {
    const subnets = known.filter((subnet) => subnet.network === network);
    const detail =
      address === undefined || subnets.length === 0
        ? undefined
        : findFault(address, network, subnets);
    return detail === undefined
      ? []
      : { pointer: `/template/networks/${position}/address`, detail };
  });
  if (errors.length === 0) return;
  throw new AppError("invalid-request", {
    detail: errors.map(({ detail }) => detail).join(" "),
    errors,
  });
}

function findFault(
  text: string,
  network: string,
  subnets: readonly SubnetRanges[],
): string | undefined {
  const address = parseAddress(text);
  if (!address) return `${text} is not an address.`;
  const { family, value } = address;
  const subnet = subnets.find(({ cidr }) =>
    contains(readSubnet(cidr), { family, first: value, last: value }),
  );
  if (!subnet) {
    const cidrs = subnets.map(({ cidr }) => cidr).join(" and ");
    return `${text} is outside of the network ${network}, which has ${cidrs}. Choose an address in it.`;
  }
  if (isAssignable(subnet, value)) return undefined;
  return `A set cannot have ${text} in ${subnet.cidr}: it is the gateway, the network or broadcast address, reserved, or outside of the pools. Choose another one.`;
}
