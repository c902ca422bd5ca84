import type { Command } from "commander";
import type { Registry } from "../../contracts/api/registries.ts";
import { registryPath } from "../api/lookup.ts";
import type { Cli } from "../cli-context.ts";
import { usageError } from "../cli-error.ts";
import { registryColumns } from "../output/columns.ts";
import { printItem } from "../output/print-items.ts";

/** The API accepts shorter passwords only. */
const PASSWORD_BYTES_MAX = 2 ** 17;

interface LoginOptions {
  username: string;
  passwordStdin?: boolean;
}

export function addRegistryCommand(program: Command, cli: Cli): void {
  program
    .command("registry")
    .description("store credentials of private registries; `berth get registries` lists them")
    .command("login")
    .summary("store the credential of a private registry")
    .description(
      "Stores the credential with which hosts pull the images of your tenant from a registry, or replaces it. The next pull uses it. No container restarts.",
    )
    .argument("<registry>", "docker.io, or a host with an optional port, as in image names")
    .requiredOption("--username <name>", "user of the registry")
    .option("--password-stdin", "read the password or access token from stdin")
    .action(async (registry: string, options: LoginOptions) => {
      const path = registryPath(registry);
      // Other users of the machine can read command lines, so no option takes a password.
      if (options.passwordStdin !== true)
        throw usageError("Use --password-stdin, and send the password on standard input.");
      const password = await readPassword(cli.options.stdin);
      const body = { username: options.username, password };
      const stored = await (await cli.api()).request<Registry>("PUT", path, { body });
      printItem(cli, registryColumns, stored);
    });
}

/** Reads all of standard input, without the line end that `echo` and editors add. */
async function readPassword(stdin: AsyncIterable<Uint8Array | string>): Promise<string> {
  const chunks: Buffer[] = [];
  let totalBytes = 0;
  for await (const chunk of stdin) {
    const bytes = Buffer.from(chunk);
    totalBytes += bytes.length;
    if (totalBytes > PASSWORD_BYTES_MAX)
      throw usageError("Standard input is too long for a password.");
    chunks.push(bytes);
  }
  const password = Buffer.concat(chunks)
    .toString("utf8")
    .replace(/\r?\n$/, "");
  if (password === "")
    throw usageError(
      'Standard input is empty. Send the password on it, for example with "< token.txt".',
    );
  return password;
}
