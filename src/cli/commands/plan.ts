import type { Command } from "commander";
import type { PlanResult } from "../../contracts/api/dry-run.ts";
import type { Service } from "../../contracts/api/services.ts";
import type { Cli } from "../cli-context.ts";
import { servicePath } from "../api/lookup.ts";
import { plainLines } from "../output/plain-text.ts";
import { printDocument } from "../output/print-items.ts";
import type { Manifest } from "../manifests/read-manifests.ts";
import { addTo } from "../repeatable.ts";
import { parseReplicas } from "./scale.ts";

export function addPlanCommand(program: Command, cli: Cli): void {
  const command = program
    .command("plan")
    .summary("show where Berth would place sets, without a change")
    .description(
      "Runs the planner without a change. Shows the hosts of the sets, or why no host fits.",
    )
    .option("-f, --file <file>", "services as YAML or JSON, or - for stdin (repeatable)", addTo)
    .action(async (options: { file?: string[] }) => {
      if (options.file === undefined) command.help({ error: true });
      else await planFiles(cli, options.file);
    });
  command
    .command("scale")
    .description("plan another number of sets for a service")
    .argument("<service>")
    .argument("<replicas>", "number of sets")
    .action(async (name: string, replicas: string) => {
      servicePath(name);
      const api = await cli.api();
      const plan = await api.request<PlanResult>("POST", "/v1/plan", {
        body: { kind: "scale", service: name, replicas: parseReplicas(replicas) },
      });
      if (cli.isForPrograms) printDocument(cli, plan);
      else cli.terminal.out(plainLines(plan.text).trimEnd());
    });
}

async function planFiles(cli: Cli, files: readonly string[]): Promise<void> {
  const { readAllManifests } = await import("../manifests/read-manifests.ts"); // loads zod
  const manifests = await readAllManifests(files, cli.options.stdin);
  const api = await cli.api();
  const plans: PlanResult[] = [];
  for (const manifest of manifests) {
    const service = await api.find<Service>(servicePath(manifest.meant.name));
    const plan = await api.request<PlanResult>("POST", "/v1/plan", {
      body: {
        kind: "apply",
        service: { ...manifest.written, replicas: replicasOf(manifest, service) },
      },
    });
    plans.push(plan);
    if (cli.isForPrograms) continue;
    if (plans.length > 1) cli.terminal.out();
    cli.terminal.out(plainLines(plan.text).trimEnd());
    if (service)
      cli.terminal.note(
        `Service ${service.name} exists. Its sets stay on their hosts. The plan shows only the sets that the file adds.`,
      );
  }
  if (cli.isForPrograms) printDocument(cli, plans);
}

/** The replicas of the file, or otherwise those of the existing service. */
function replicasOf({ written, meant }: Manifest, service: Service | undefined): number {
  return service && written["replicas"] === undefined ? service.replicas : meant.replicas;
}
