import type { Command } from "commander";
import type { Applied } from "../manifests/apply-service.ts";
import type { Cli } from "../cli-context.ts";
import { CliError } from "../cli-error.ts";
import { plainText } from "../output/plain-text.ts";
import { printDocument } from "../output/print-items.ts";
import { addTo } from "../repeatable.ts";
import { DEFAULT_WAIT, parseTimeout, waitForService } from "../api/wait-for.ts";

interface ApplyOptions {
  file: string[];
  adoptNewSets?: boolean;
  wait?: boolean;
  timeout: string;
}

export function addApplyCommand(program: Command, cli: Cli): void {
  program
    .command("apply")
    .summary("create or change services to match files")
    .description(
      "Creates the services that the files describe, or changes them to match. A second run changes nothing.",
    )
    .requiredOption(
      "-f, --file <file>",
      "services as YAML or JSON, or - for stdin (repeatable)",
      addTo,
    )
    .option("--adopt-new-sets", "use a changed template for new sets only, without a rollout")
    .option("--wait", "wait until all services have settled")
    .option("--timeout <time>", "maximum wait", DEFAULT_WAIT)
    .action(async (options: ApplyOptions) => await apply(cli, options));
}

async function apply(cli: Cli, options: ApplyOptions): Promise<void> {
  const timeoutSeconds = parseTimeout(options.timeout);
  const { readAllManifests } = await import("../manifests/read-manifests.ts"); // loads zod
  const { applyService } = await import("../manifests/apply-service.ts");
  const manifests = await readAllManifests(options.file, cli.options.stdin);
  const api = await cli.api();
  const results: Applied[] = [];
  for (const manifest of manifests) {
    const adoptsForNewSets = options.adoptNewSets === true;
    const result = await applyService(api, manifest, { adoptsForNewSets }).catch(
      (error: unknown) => {
        throw withDocument(error, manifest.at);
      },
    );
    results.push(result);
    if (!cli.isForPrograms) printApplied(cli, result);
  }
  if (options.wait === true) {
    for (const result of results) {
      const { name, revision, targetRevision } = result.service;
      if (targetRevision > revision) {
        cli.terminal.note(
          `service/${name} stays at revision ${revision}. Revision ${targetRevision} needs a rollout or \`berth apply --adopt-new-sets\`.`,
        );
        continue;
      }
      const settled = await waitForService(cli, api, name, "settled", timeoutSeconds);
      if (settled) result.service = settled;
    }
  }
  if (cli.isForPrograms) printDocument(cli, results);
}

function printApplied(cli: Cli, { action, changed, effects, service }: Applied): void {
  const what = changed.length === 0 ? "" : ` (${changed.join(", ")})`;
  const tone = action === "unchanged" ? "dim" : "good";
  cli.terminal.out(`service/${service.name} ${cli.terminal.paintOut(tone, action)}${what}`);
  for (const effect of effects) cli.terminal.out(`  ${plainText(effect)}`);
}

/** Adds the document of the file to an error. */
function withDocument(error: unknown, at: string): unknown {
  if (!(error instanceof CliError)) return error;
  return new CliError(`${at}: ${error.message}`, {
    exitCode: error.exitCode,
    hints: error.hints,
    errors: error.errors,
    ...(error.requestId === undefined ? {} : { requestId: error.requestId }),
    ...(error.code === undefined ? {} : { code: error.code }),
    cause: error,
  });
}
