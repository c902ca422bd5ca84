import type { Command } from "commander";
import type { Network, NetworkAddress } from "../../contracts/api/networks.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { listPages } from "../api/list-pages.ts";
import { networkPath } from "../api/lookup.ts";
import { networkAddressColumns, networkColumns } from "../output/network-columns.ts";
import { printDocument, printItem, printItems } from "../output/print-items.ts";
import { addTo } from "../repeatable.ts";

const ADDRESSES_DEFAULT = "500";
const ADDRESSES_MAX = 200_000;

interface SubnetOptions {
  subnet?: string[];
  gateway?: string[];
  pool?: string[];
  reserve?: string[];
}

export function addNetworkCommand(program: Command, cli: Cli): void {
  const command = program
    .command("network")
    .description("change networks, or list their addresses; `berth get networks` lists networks");
  withSubnets(
    command
      .command("create")
      .summary("create a network")
      .description("Creates a network with one IPv4 subnet, one IPv6 subnet, or both."),
  ).action(async (name: string, options: SubnetOptions) => {
    networkPath(name);
    const body = { name, subnets: toSubnets(options) };
    const network = await (await cli.api()).request<Network>("POST", "/v1/networks", { body });
    printItem(cli, networkColumns, network);
  });
  withSubnets(
    command
      .command("update")
      .summary("replace the subnets of a network")
      .description(
        "Replaces all subnets of a network, with their gateways, pools and reservations: repeat those that you want to keep. A subnet that you name again stays, with the addresses of its sets.",
      ),
  ).action(async (name: string, options: SubnetOptions) => {
    const api = await cli.api();
    const { generation } = await api.request<Network>("GET", networkPath(name));
    const body = { subnets: toSubnets(options) };
    const network = await api.request<Network>("PATCH", networkPath(name), { body, generation });
    printItem(cli, networkColumns, network);
  });
  command
    .command("delete")
    .alias("rm")
    .description("delete a network that no service uses")
    .argument("<network>")
    .option("--yes", "no effect, because this command does not ask")
    .action(async (name: string) => {
      await (await cli.api()).request("DELETE", networkPath(name));
      if (cli.isForPrograms) printDocument(cli, { deleted: name });
      else cli.terminal.out(`network/${name} deleted`);
    });
  command
    .command("addresses")
    .description("list the addresses that sets and services have, or had until recently")
    .argument("<network>")
    .option("--limit <count>", "maximum number of addresses", ADDRESSES_DEFAULT)
    .action(async (name: string, options: { limit: string }) => {
      await printAddresses(cli, name, options.limit);
    });
}

async function printAddresses(cli: Cli, name: string, limitText: string): Promise<void> {
  const limit = Number(limitText);
  if (!Number.isInteger(limit) || limit < 1 || limit > ADDRESSES_MAX)
    throw usageError(`--limit ${limitText} is not a number from 1 to ${ADDRESSES_MAX}.`);
  const path = `${networkPath(name)}/addresses`;
  const { items, isCut } = await listPages<NetworkAddress>(await cli.api(), path, limit);
  printItems(cli, "addresses", networkAddressColumns, items);
  if (isCut) cli.terminal.note(`Only the first ${limit} are shown. --limit raises this number.`);
}

function withSubnets(command: Command): Command {
  return command
    .argument("<network>")
    .requiredOption(
      "--subnet <cidr>",
      "subnet such as 10.64.0.0/16 or fd00:64::/64 (repeatable: one of each family)",
      addTo,
    )
    .option(
      "--gateway <address>",
      "gateway (default: the second address of the subnet; repeatable)",
      addTo,
    )
    .option(
      "--pool <range>",
      "range from which Berth assigns addresses, such as 10.64.1.0-10.64.1.99 (repeatable)",
      addTo,
    )
    .option("--reserve <range>", "addresses that Berth never assigns (repeatable)", addTo);
}

/** Each address belongs to the subnet of its family, so no option names the subnet. */
function toSubnets(options: SubnetOptions) {
  const cidrs = options.subnet ?? [];
  const families = cidrs.map(isIpv6);
  for (const text of [options.gateway, options.pool, options.reserve].flatMap((list) => list ?? []))
    if (!families.includes(isIpv6(text)))
      throw usageError(
        `${text} is an IPv${isIpv6(text) ? 6 : 4} address, but no --subnet is. Add an IPv${isIpv6(text) ? 6 : 4} --subnet.`,
      );
  return cidrs.map((cidr) => {
    const withFamily = (texts: readonly string[] = []) =>
      texts.filter((text) => isIpv6(text) === isIpv6(cidr));
    const [gateway, ...others] = withFamily(options.gateway);
    if (others.length > 0) throw usageError(`Subnet ${cidr} has more than one --gateway.`);
    const pools = withFamily(options.pool);
    const reservations = withFamily(options.reserve);
    return {
      cidr,
      ...(gateway === undefined ? {} : { gateway }),
      ...(pools.length === 0 ? {} : { pools }),
      ...(reservations.length === 0 ? {} : { reservations }),
    };
  });
}

function isIpv6(text: string): boolean {
  return text.includes(":");
}
