import type { Command } from "commander";
import type { BerthSet } from "../../contracts/api/sets.ts";
import type { Volume } from "../../contracts/api/volumes.ts";
import { formatBytes } from "../output/format-amounts.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { confirm } from "../output/confirm.ts";
import { listPages } from "../api/list-pages.ts";
import { printItem, printItems } from "../output/print-items.ts";
import { setColumns, volumeColumns } from "../output/columns.ts";
import { DEFAULT_WAIT, parseTimeout, waitForSet } from "../api/wait-for.ts";

const LIMIT_MAX = 10_000;

export function addVolumeCommand(program: Command, cli: Cli): void {
  const command = program
    .command("volume")
    .summary("see, restore or purge volumes in the trash")
    .description(
      "When a set is deleted its volume goes to the trash of its host, and is kept for some days. `berth get volumes` lists those in use, too.",
    );
  command
    .command("trash")
    .description("list what is in the trash, and until when")
    .option("--service <name>", "of this service only")
    .action(async (options: { service?: string }) => {
      const api = await cli.api();
      const query = { state: "trashed", service: options.service };
      const { items } = await listPages<Volume>(api, "/v1/volumes", LIMIT_MAX, query);
      printItems(cli, "volumes in the trash", volumeColumns, items);
    });
  command
    .command("restore")
    .description("start one more set of its service, on its host, with what is in it")
    .argument("<volume>")
    .option("--wait", "wait until the set is ready")
    .option("--timeout <time>", "how long to wait at most", DEFAULT_WAIT)
    .action(async (id: string, options: { wait?: boolean; timeout: string }) => {
      const timeoutSeconds = parseTimeout(options.timeout);
      const api = await cli.api();
      const set = await api.request<BerthSet>("POST", `${volumePath(id)}/restore`);
      const after =
        options.wait === true
          ? await waitForSet(cli, api, set.id, "ready", timeoutSeconds)
          : undefined;
      printItem(cli, setColumns, after ?? set);
    });
  command
    .command("purge")
    .description("destroy a volume of the trash now, with all that is in it")
    .argument("<volume>")
    .option("--yes", "do not ask")
    .action(async (id: string, options: { yes?: boolean }) => {
      const path = volumePath(id);
      const api = await cli.api();
      if (options.yes !== true) await confirmPurge(cli, api, id);
      const volume = await api.request<Volume>("POST", `${path}/purge`, { body: { confirm: id } });
      printItem(cli, volumeColumns, volume);
    });
}

function volumePath(id: string): string {
  if (/^vol_[0-9a-z]+$/.test(id)) return `/v1/volumes/${id}`;
  throw usageError(
    `"${id}" is not a volume's id, such as vol_01jd…`,
    "`berth volume trash` lists those in the trash.",
  );
}

/** Throws unless somebody says yes. */
async function confirmPurge(cli: Cli, api: ApiClient, id: string): Promise<void> {
  const { items } = await listPages<Volume>(api, "/v1/volumes", LIMIT_MAX, { state: "trashed" });
  const volume = items.find((candidate) => candidate.id === id);
  const what = volume
    ? `${formatBytes(volume.sizeBytes)} of service ${volume.service}, kept until ${volume.expiresAt}`
    : "which is not in the trash";
  const question = `Purge ${id} (${what})? What is in it cannot be brought back.`;
  await confirm(cli, question, "Nothing was purged.");
}
