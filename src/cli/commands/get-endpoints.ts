import type { EndpointList } from "../../contracts/api/endpoints.ts";
import type { ApiClient } from "../api/api-client.ts";
import { servicePath } from "../api/lookup.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { endpointColumns } from "../output/columns.ts";
import { printDocument, printItems } from "../output/print-items.ts";

/** Prints the endpoints of a service. A document for programs has the version of the list. */
export async function getEndpoints(
  cli: Cli,
  api: ApiClient,
  service: string | undefined,
): Promise<void> {
  if (service === undefined)
    throw usageError("Endpoints belong to a service.", "`berth get endpoints SERVICE` lists them.");
  const list = await api.request<EndpointList>("GET", `${servicePath(service)}/endpoints`);
  printEndpoints(cli, list);
}

function printEndpoints(cli: Cli, list: EndpointList): void {
  if (cli.isForPrograms) {
    printDocument(cli, list);
    return;
  }
  printItems(cli, "endpoints", endpointColumns, list.endpoints);
  const shown = list.endpoints.length;
  if (shown < list.total) cli.terminal.note(`Only the first ${shown} of ${list.total} are shown.`);
}
