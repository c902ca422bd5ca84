import type { Command } from "commander";
import type { BerthEvent } from "../../contracts/api/events.ts";
import type { Cli } from "../cli-context.ts";
import { followStream } from "../api/follow-stream.ts";
import { getHost } from "../api/lookup.ts";
import { listPages } from "../api/list-pages.ts";
import { plainText } from "../output/plain-text.ts";
import { noteRetry } from "../output/note-retry.ts";
import { printDocument } from "../output/print-items.ts";

const EVENTS_DEFAULT = 50;
const KIND_WIDTH = 19;
/** The length of a set's id. */
const SUBJECT_WIDTH = 30;

interface EventsOptions {
  follow?: boolean;
  service?: string;
  set?: string;
  host?: string;
  kind?: string;
}

export function addEventsCommand(program: Command, cli: Cli): void {
  program
    .command("events")
    .description("show the latest events, oldest first; -f follows new events")
    .option("-f, --follow", "follow new events until Ctrl-C")
    .option("--service <name>", "only events of this service")
    .option("--set <id>", "only events of this set")
    .option("--host <host>", "only events of this host")
    .option("--kind <kind>", "only events of this kind, such as set-running")
    .action(async (options: EventsOptions) => await events(cli, options));
}

async function events(cli: Cli, options: EventsOptions): Promise<void> {
  const api = await cli.api();
  const query = {
    service: options.service,
    set: options.set,
    host: options.host === undefined ? undefined : (await getHost(api, options.host)).id,
    kind: options.kind,
  };
  if (options.follow === true) {
    await followStream<BerthEvent>(api, "/v1/events", {
      query,
      signal: cli.options.signal,
      onMessage: (event) => printEvent(cli, event),
      onRetry: (error, delayMs) => noteRetry(cli, error, delayMs),
    });
    return;
  }
  const { items } = await listPages<BerthEvent>(api, "/v1/events", EVENTS_DEFAULT, query);
  if (cli.isForPrograms) printDocument(cli, items);
  else for (const event of items.reverse()) printEvent(cli, event);
}

/** Prints an event on one line. With -o json each line is a JSON object, for pipes. */
function printEvent(cli: Cli, event: BerthEvent): void {
  const { terminal } = cli;
  if (cli.format === "json") {
    terminal.out(JSON.stringify(event));
    return;
  }
  if (cli.format === "yaml") {
    terminal.out("---");
    printDocument(cli, event);
    return;
  }
  const time = event.at.slice(11, 23);
  const tone = /failed|lost|unhealthy|rejected|exited/.test(event.kind)
    ? "bad"
    : /running|ready|enrolled/.test(event.kind)
      ? "good"
      : undefined;
  const kind = event.kind.padEnd(KIND_WIDTH);
  const subject = subjectOf(event).padEnd(SUBJECT_WIDTH);
  terminal.out(
    `${terminal.paintOut("dim", time)}  ${tone ? terminal.paintOut(tone, kind) : kind}  ${subject}  ${plainText(event.text)}`,
  );
}

/** Names the subject of an event, because its text does not name the set. */
function subjectOf({ setId, service, hostId }: BerthEvent): string {
  if (setId !== null) return setId;
  return service === null ? (hostId ?? "-") : `service/${service}`;
}
