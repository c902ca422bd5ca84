import { scanTokens } from "../architecture/parse-source.ts";

/** Where a text comes from: rules apply to some sources only. */
export type ProseKind = "comment" | "text" | "title" | "document" | "heading" | "cell";

/** One paragraph, list item, comment paragraph, string or table cell, as a reader sees it. */
export interface Prose {
  kind: ProseKind;
  /** The line of its first character, from 1. */
  line: number;
  /** One line; a code span reads `CODE`, an interpolation reads `VALUE`. */
  text: string;
}

const titleBefore = /(?:\b(?:it|test|describe)(?:\.\w+)*|\))\(\s*["'`]$/;
const sqlBefore = /\bsql(?:\.raw)?(?:<[^`]*>)?\(?\s*["'`]$/;
const directive = /^(?:oxlint|eslint|@ts-|v8 ignore|prettier|oxfmt|#!)/;

/**
 * The comments and the readable strings of a TypeScript file. Strings of a test count if they are
 * titles.
 */
export function readSourceProse(path: string, source: string): Prose[] {
  const lineAt = lineCounter(source);
  const isTest = path.startsWith("test/") || path.endsWith(".test.ts");
  const prose: Prose[] = [];
  let block: { text: string; line: number; endsAt: number } | undefined;
  const flush = () => {
    if (block !== undefined) prose.push(...paragraphs("comment", block.text, block.line));
    block = undefined;
  };
  for (const { kind, from, to } of scanTokens(source)) {
    const raw = source.slice(from, to);
    if (kind === "comment") {
      const text = withoutMarks(raw);
      const follows = block !== undefined && source.slice(block.endsAt, from).trim() === "";
      if (raw.startsWith("//") && block !== undefined && follows) {
        block.text += `\n${text}`;
        block.endsAt = to;
        continue;
      }
      flush();
      block = { text, line: lineAt(from), endsAt: to };
    } else if (kind !== "pattern") {
      const before = source.slice(Math.max(0, from - 120), from);
      const isTitle = isTest && titleBefore.test(before);
      if ((isTest && !isTitle) || sqlBefore.test(before)) continue;
      const text = oneLine(raw.replaceAll(/\$\{(?:[^{}]|\{[^{}]*\})*\}/g, "VALUE"));
      if (isReadable(text))
        prose.push({ kind: isTitle ? "title" : "text", line: lineAt(from), text });
    }
  }
  flush();
  return prose;
}

/** The headings, paragraphs, list items and table cells of a Markdown document. */
export function readDocumentProse(document: string): Prose[] {
  const blank = (match: string) => match.replaceAll(/[^\n]/g, " ");
  const text = document
    .replaceAll(/^```[\s\S]*?^```/gm, blank)
    .replaceAll(/^(?: {4,}|\t)(?![-*] |\d+\. ).*$/gm, (line, at: number, all: string) =>
      isCodeBlock(all, at) ? "" : line,
    );
  return paragraphs("document", text, 1);
}

/**
 * The comments of a file in which `#` begins a comment, at the start of a line or after a space.
 * Consecutive comment lines are one paragraph; a comment after a value is one of its own.
 */
export function readConfigurationProse(text: string): Prose[] {
  const lines = text.split("\n");
  const whole = lines.map(
    (line) => /^\s*#(?!!)(?<comment>.*)$/.exec(line)?.groups?.["comment"] ?? "",
  );
  const afterValues = lines.flatMap((line, index) => {
    const comment = /^\s*[^\s#].*?\s#\s(?<comment>.*)$/.exec(line)?.groups?.["comment"];
    return comment === undefined ? [] : paragraphs("comment", comment, index + 1);
  });
  return [...paragraphs("comment", whole.join("\n"), 1), ...afterValues];
}

/** An indented line is code if the nearest line before it that is not indented is blank. */
function isCodeBlock(text: string, at: number): boolean {
  const before = text.slice(0, at).split("\n").slice(0, -1);
  const previous = before.findLastIndex((line) => !/^(?: {4,}|\t)/.test(line));
  return previous < 0 || before[previous]?.trim() === "";
}

function paragraphs(kind: "comment" | "document", text: string, firstLine: number): Prose[] {
  const found: Prose[] = [];
  let current: Prose | undefined;
  for (const [index, raw] of text.split("\n").entries()) {
    const line = firstLine + index;
    const trimmed = raw.trim();
    const isTable = trimmed.startsWith("|");
    const isHeading = kind === "document" && /^#+ /.test(trimmed);
    if (trimmed === "" || isTable || isHeading || directive.test(trimmed)) {
      current = undefined;
      if (isHeading) found.push({ kind: "heading", line, text: trimmed.replace(/^#+ /, "") });
      if (isTable) found.push(...cells(trimmed, line));
      continue;
    }
    const item = /^(?:[-*] |\d+\. |@\w+ |> )/.exec(trimmed);
    if (current === undefined || item !== null) {
      current = { kind, line, text: trimmed.slice(item?.[0].length ?? 0) };
      found.push(current);
    } else {
      current.text += ` ${trimmed}`;
    }
  }
  return found.map((prose) => ({ ...prose, text: oneLine(prose.text) }));
}

function cells(row: string, line: number): Prose[] {
  if (/^\|[\s|:-]*$/.test(row)) return [];
  return row
    .replaceAll("\\|", "/")
    .split("|")
    .map((cell) => cell.trim())
    .filter((cell) => cell !== "")
    .map((cell) => ({ kind: "cell" as const, line, text: oneLine(cell) }));
}

function withoutMarks(comment: string): string {
  return comment
    .replace(/^\/\*\*?|\*\/$/g, "")
    .split("\n")
    .map((line) => line.replace(/^\s*(?:\/\/+|\*)? ?/, ""))
    .join("\n");
}

function oneLine(text: string): string {
  return text
    .replaceAll(/`[^`]*`/g, "CODE")
    .replaceAll(/\[(?<label>[^\]]*)\]\([^)]*\)/g, "$<label>")
    .replaceAll(/[*_]{1,2}(?=\S)(?<inner>[^*_]+)[*_]{1,2}/g, "$<inner>")
    .replaceAll(/\s+/g, " ")
    .trim();
}

/** A string that people read: three words or more, and not a statement of SQL or a path. */
function isReadable(text: string): boolean {
  if (
    /\b(?:SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|WHERE|ALTER|CREATE|redis\.call)\b/.test(
      text,
    )
  )
    return false;
  return text.split(" ").filter((word) => /[A-Za-z]{2}/.test(word)).length >= 3;
}

function lineCounter(source: string): (at: number) => number {
  const starts = [0, ...[...source.matchAll(/\n/g)].map((match) => match.index + 1)];
  return (at) => starts.findLastIndex((start) => start <= at) + 1;
}
