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
    .summary("list, restore or purge trashed volumes")
    .description(
      "Manages trashed volumes. A host retains the volume of a deleted set for some days. `berth get volumes` also lists volumes in use.",
    );
  command
    .command("ls")
    .description("list volumes with their expiry")
    .option("--trashed", "only volumes in the trash")
    .option("--service <name>", "only volumes of this service")
    .action(async (options: { trashed?: boolean; service?: string }) => {
      await listVolumes(cli, options);
    });
  command
    .command("trash", { hidden: true }) // the previous name of `ls --trashed`
    .option("--service <name>")
    .action(async (options: { service?: string }) => {
      await listVolumes(cli, { ...options, trashed: true });
    });
  command
    .command("restore")
    .description("add a set with this volume to its service, on the host of the volume")
    .argument("<volume>")
    .option("--wait", "wait until the set is ready")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
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
    .description("delete a trashed volume and its data now")
    .argument("<volume>")
    .option("--yes", "purge without a confirmation")
    .action(async (id: string, options: { yes?: boolean }) => {
      const path = volumePath(id);
      const api = await cli.api();
      if (options.yes !== true) await confirmPurge(cli, api, id);
      const volume = await api.request<Volume>("POST", `${path}/purge`, { body: { confirm: id } });
      printItem(cli, volumeColumns, volume);
    });
}

async function listVolumes(
  cli: Cli,
  { trashed = false, service }: { trashed?: boolean; service?: string },
): Promise<void> {
  const api = await cli.api();
  const query = { state: trashed ? "trashed" : undefined, service };
  const { items } = await listPages<Volume>(api, "/v1/volumes", LIMIT_MAX, query);
  printItems(cli, trashed ? "trashed volumes" : "volumes", volumeColumns, items);
}

function volumePath(id: string): string {
  if (/^vol_[0-9a-z]+$/.test(id)) return `/v1/volumes/${id}`;
  throw usageError(
    `"${id}" is not the id of a volume, such as vol_01jd…`,
    "`berth volume ls --trashed` lists trashed volumes.",
  );
}

/** Throws unless the user types yes. */
async function confirmPurge(cli: Cli, api: ApiClient, id: string): Promise<void> {
  const { items } = await listPages<Volume>(api, "/v1/volumes", LIMIT_MAX, { state: "trashed" });
  const volume = items.find((candidate) => candidate.id === id);
  const description = volume
    ? `${formatBytes(volume.sizeBytes)} of service ${volume.service}, ${volume.expiresAt === null ? "without an expiry yet" : `retained until ${volume.expiresAt}`}`
    : "it is not in the trash";
  const question = `Purge ${id} (${description})? You cannot restore its data afterwards.`;
  await confirm(cli, question, "Berth purged nothing.");
}
