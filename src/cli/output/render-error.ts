import type { CliError } from "../cli-error.ts";
import { plainText } from "./plain-text.ts";
import type { Terminal } from "./terminal.ts";

const FIELDS_SHOWN = 20;

/** Prints the message, the invalid fields, the remedies and the id of the request. */
export function renderError(terminal: Terminal, error: CliError): void {
  terminal.note(`${terminal.paintNote("bad", "error:")} ${plainText(error.message)}`);
  for (const { pointer, detail } of error.errors.slice(0, FIELDS_SHOWN)) {
    const where = pointer === "" ? "(whole request)" : plainText(pointer);
    terminal.note(`  ${terminal.paintNote("bold", where)}: ${plainText(detail)}`);
  }
  const hidden = error.errors.length - FIELDS_SHOWN;
  if (hidden > 0) terminal.note(`  and ${hidden} more`);
  for (const hint of error.hints) if (hint !== "") terminal.note(`  ${plainText(hint)}`);
  if (error.requestId !== undefined)
    terminal.note(terminal.paintNote("dim", `  request id ${plainText(error.requestId)}`));
}
