import type { Cli } from "../cli-context.ts";
import { renderTable } from "./render-table.ts";
import type { Column } from "./columns.ts";

/** Prints a resource or a list as a document for programs. */
export function printDocument(cli: Cli, document: unknown): void {
  cli.terminal.out(cli.serialize(document).trimEnd());
}

/**
 * Prints a table for users, or a list for programs. An empty table prints a note on stderr. A
 * terminal gets lines as long as it is wide, because reasons are long; -o wide prints them whole.
 */
export function printItems<T>(
  cli: Cli,
  kind: string,
  columns: readonly Column<T>[],
  items: readonly T[],
): void {
  if (cli.isForPrograms) {
    printDocument(cli, items);
    return;
  }
  if (items.length === 0) {
    cli.terminal.note(`No ${kind} found.`);
    return;
  }
  for (const line of itemsTable(cli, columns, items).split("\n")) {
    cli.terminal.out(cli.format === "table" ? cli.terminal.fitOut(line) : line);
  }
}

/** Prints one item: a table of one row for users, a document for programs. */
export function printItem<T>(cli: Cli, columns: readonly Column<T>[], item: T): void {
  if (cli.isForPrograms) printDocument(cli, item);
  else cli.terminal.out(itemsTable(cli, columns, [item]));
}

export function itemsTable<T>(
  cli: Cli,
  columns: readonly Column<T>[],
  items: readonly T[],
): string {
  const shown = columns.filter((column) => {
    const cells = new Set(items.map((item) => column.cell(item, cli.now)));
    if (column.wide === true && cli.format !== "wide")
      return column.head === "TENANT" && cells.size > 1; // an admin lists several tenants
    const isEmpty = [...cells].every((cell) => cell === "");
    return !isHiddenWhenEmpty(column.head) || !isEmpty;
  });
  return renderTable(
    shown.map((column) => cli.terminal.paintOut("dim", column.head)),
    items.map((item) =>
      shown.map((column) => {
        const text = column.cell(item, cli.now);
        const tone = column.tone?.(item);
        return tone === undefined ? text : cli.terminal.paintOut(tone, text);
      }),
    ),
  );
}

function isHiddenWhenEmpty(head: string): boolean {
  return head === "REASON" || head === "OPERATION";
}
