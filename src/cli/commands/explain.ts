import type { Command } from "commander";
import type { Decision, Demand } from "../../contracts/api/autoscaling.ts";
import type { Service } from "../../contracts/api/services.ts";
import type { BerthSet, SetExplanation } from "../../contracts/api/sets.ts";
import { formatAge } from "../output/format-amounts.ts";
import type { ApiClient } from "../api/api-client.ts";
import type { Cli } from "../cli-context.ts";
import { getService, isSetId, servicePath, setPath } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { plainLines, plainText } from "../output/plain-text.ts";
import { itemsTable, printDocument } from "../output/print-items.ts";
import { decisionColumns, demandColumns, serviceStatus } from "../output/columns.ts";

const DECISIONS_SHOWN = 5;
const DEMANDS_SHOWN = 20;
const SETS_READ_MAX = 2_000;
const REASONS_SHOWN = 5;

export function addExplainCommand(program: Command, cli: Cli): void {
  program
    .command("explain")
    .summary("explain the placement of a set, or the size of a service")
    .description(
      "Explains why a set is on its host or has none. For a service, explains its number of sets and why sets do not run.",
    )
    .argument("<set|service>")
    .action(async (target: string) => {
      const api = await cli.api();
      if (isSetId(target)) await explainSet(cli, api, target);
      else await explainService(cli, api, target);
    });
}

async function explainSet(cli: Cli, api: ApiClient, id: string): Promise<void> {
  const explanation = await api.request<SetExplanation>("GET", `${setPath(id)}/explain`);
  if (cli.isForPrograms) printDocument(cli, explanation);
  else cli.terminal.out(plainLines(explanation.text).trimEnd());
}

interface CountedReason {
  reason: string;
  sets: number;
  /** One of these sets, as an example. */
  setId: string;
}

async function explainService(cli: Cli, api: ApiClient, name: string): Promise<void> {
  const service = await getService(api, name);
  const [demands, decisions, sets] = await Promise.all([
    listPages<Demand>(api, `${servicePath(name)}/demands`, DEMANDS_SHOWN),
    listPages<Decision>(api, "/v1/decisions", DECISIONS_SHOWN, { service: name }),
    listPages<BerthSet>(api, "/v1/sets", SETS_READ_MAX, { service: name }),
  ]);
  const reasons = countReasons(sets.items);
  const [worst] = reasons;
  const example =
    worst && sets.items.some((set) => set.id === worst.setId && set.state === "pending")
      ? await api.request<SetExplanation>("GET", `${setPath(worst.setId)}/explain`)
      : undefined;
  if (cli.isForPrograms) {
    const documents = { demands: demands.items, decisions: decisions.items, reasons };
    printDocument(cli, { service, ...documents, example: example ?? null });
    return;
  }
  printSummary(cli, service);
  const { terminal } = cli;
  const held = demands.items
    .filter((demand) => demand.state !== "released")
    .map((demand) => ({ ...demand, service: name }));
  printSection(cli, "Active demands of alerts", held.length > 0, () =>
    terminal.out(itemsTable(cli, demandColumns, held)),
  );
  printSection(cli, "Latest decisions", decisions.items.length > 0, () =>
    terminal.out(itemsTable(cli, decisionColumns, decisions.items)),
  );
  printSection(cli, "Reasons why sets do not run", reasons.length > 0, () => {
    for (const { reason, sets: count, setId } of reasons.slice(0, REASONS_SHOWN))
      terminal.out(`${count} ${count === 1 ? "set" : "sets"}: ${reason}  (example: ${setId})`);
    if (sets.isCut) terminal.out(`Only the first ${SETS_READ_MAX} sets are counted.`);
  });
  printSection(cli, `Example: ${worst?.setId ?? ""}`, example !== undefined, () =>
    terminal.out(plainLines(example?.text ?? "").trimEnd()),
  );
}

function printSummary(cli: Cli, service: Service): void {
  const { counts, desiredReplicas, replicas, autoscale } = service;
  const { terminal } = cli;
  terminal.out(
    `${terminal.paintOut("bold", service.name)}: ${counts.ready} of ${desiredReplicas} sets ready; ${serviceStatus(service)}`,
  );
  const bounds = autoscale
    ? ` It scales the service between ${autoscale.min} and ${autoscale.max} sets.`
    : "";
  const scaled =
    desiredReplicas === replicas ? "" : ` Autoscaling changes this to ${desiredReplicas}.${bounds}`;
  terminal.out(`The configured number of sets is ${replicas}.${scaled}`);
  terminal.out(`Last changed ${formatAge(service.updatedAt, cli.now)} ago.`);
}

function printSection(cli: Cli, heading: string, hasContent: boolean, print: () => void): void {
  if (!hasContent) return;
  cli.terminal.out();
  cli.terminal.out(cli.terminal.paintOut("bold", heading));
  print();
}

/** Counts the reasons why sets are not in their desired state, most frequent first. */
function countReasons(sets: readonly BerthSet[]): CountedReason[] {
  const byText = new Map<string, CountedReason>();
  for (const set of sets) {
    if (!set.reason) continue;
    const reason = plainText(set.reason.text);
    const counted = byText.get(reason) ?? { reason, sets: 0, setId: set.id };
    counted.sets++;
    byText.set(reason, counted);
  }
  return [...byText.values()].sort((a, b) => b.sets - a.sets || (a.reason < b.reason ? -1 : 1));
}
