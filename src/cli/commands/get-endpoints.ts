import type { EndpointList } from "../../contracts/api/endpoints.ts";
import type { ApiClient } from "../api/api-client.ts";
import { followStream } from "../api/follow-stream.ts";
import { servicePath } from "../api/lookup.ts";
import { formatCount } from "../../lib/text/format-count.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { endpointColumns, gatewayColumns } from "../output/network-columns.ts";
import { noteRetry } from "../output/note-retry.ts";
import { printDocument, printItems } from "../output/print-items.ts";

/** Prints the endpoints of a service. A document for programs has the version of the list. */
export async function getEndpoints(
  cli: Cli,
  api: ApiClient,
  service: string | undefined,
  { follow = false }: { follow?: boolean },
): Promise<void> {
  if (service === undefined)
    throw usageError("Endpoints belong to a service.", "`berth get endpoints SERVICE` lists them.");
  const path = `${servicePath(service)}/endpoints`;
  if (!follow) {
    printEndpoints(cli, await api.request<EndpointList>("GET", path));
    return;
  }
  let version: string | undefined;
  await followStream<EndpointList>(api, path, {
    signal: cli.options.signal,
    onMessage: (list) => {
      // A new connection repeats the list.
      if (list.version !== version) printChange(cli, list);
      version = list.version;
    },
    onRetry: (error, delayMs) => noteRetry(cli, error, delayMs),
  });
}

/** Prints a list while following. With -o json each line is a list, for pipes. */
function printChange(cli: Cli, list: EndpointList): void {
  if (cli.format === "json") {
    cli.terminal.out(JSON.stringify(list));
    return;
  }
  if (cli.format === "yaml") cli.terminal.out("---");
  else cli.terminal.out(cli.terminal.paintOut("dim", describeChange(cli, list)));
  printEndpoints(cli, list);
}

function describeChange(cli: Cli, { service, total }: EndpointList): string {
  const time = new Date(cli.now).toISOString().slice(11, 23);
  return `${time}  ${formatCount(total, "endpoint")} of ${service}`;
}

function printEndpoints(cli: Cli, list: EndpointList): void {
  if (cli.isForPrograms) {
    printDocument(cli, list);
    return;
  }
  printItems(cli, "endpoints", endpointColumns, list.endpoints);
  if (list.gateways.length > 0) printItems(cli, "gateways", gatewayColumns, list.gateways);
  const shown = list.endpoints.length;
  if (shown < list.total) cli.terminal.note(`Only the first ${shown} of ${list.total} are shown.`);
}
