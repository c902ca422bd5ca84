export interface ImportStatement {
  specifier: string;
  /** Whether it does not exist at run time: the statement is `import type` or `export type`. */
  isTypeOnly: boolean;
}

export interface ParsedSource {
  imports: ImportStatement[];
  /**
   * The source with every comment, and the inside of every string and regular expression, blanked
   * out.
   */
  code: string;
  /** The source with comments blanked out, and strings as they are. */
  withoutComments: string;
}

const staticImport =
  /(?:^|[;}\n])\s*(?:import|export)\s+(?<type>type\s+(?!from\b))?(?:[\w$\s{},*]+?from\s*)?["'](?<specifier>[^"'\n]+)["']/g;
const dynamicImport = /\bimport\s*\(\s*["'](?<specifier>[^"'\n]+)["']/g;

/**
 * The parts of a TypeScript file that the architecture rules read. TypeScript 7 has no stable API,
 * and scanning the text is fast enough.
 */
export function parseSource(source: string): ParsedSource {
  const { code, withoutComments } = blankOut(source);
  const imports: ImportStatement[] = [];
  for (const pattern of [staticImport, dynamicImport]) {
    for (const match of withoutComments.matchAll(pattern)) {
      // An import inside of a string or a template is blank in `code`.
      const keywordAt = match.index + match[0].search(/import|export/);
      if (code.slice(keywordAt, keywordAt + 6).trim() === "") continue;
      const { specifier = "", type } = match.groups ?? {};
      imports.push({ specifier, isTypeOnly: type !== undefined });
    }
  }
  return { imports, code, withoutComments };
}

/**
 * One token at a time: comment, string, template, regular expression (only where an expression may
 * begin).
 */
const token =
  /(?<comment>\/\/[^\n]*|\/\*[\s\S]*?\*\/)|(?<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|(?<template>`)|(?<before>(?:[(,=:[!&|?{};+]|=>|\breturn|\bcase)\s*)(?<pattern>\/(?![*/])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/)/g;

/** A comment with its delimiters, or the inside of a string, template or regular expression. */
export interface SourceToken {
  kind: "comment" | "text" | "template" | "pattern";
  from: number;
  to: number;
}

/** Every comment, string, template and regular expression of `source`, in its order. */
export function scanTokens(source: string): SourceToken[] {
  const tokens: SourceToken[] = [];
  token.lastIndex = 0;
  for (let match = token.exec(source); match !== null; match = token.exec(source)) {
    const { comment, text, template, before } = match.groups ?? {};
    const end = match.index + match[0].length;
    if (comment !== undefined) {
      tokens.push({ kind: "comment", from: match.index, to: end });
    } else if (template !== undefined) {
      token.lastIndex = endOfTemplate(source, end);
      tokens.push({ kind: "template", from: end, to: token.lastIndex - 1 });
    } else if (text !== undefined) {
      tokens.push({ kind: "text", from: match.index + 1, to: end - 1 });
    } else {
      const from = match.index + (before?.length ?? 0) + 1;
      tokens.push({ kind: "pattern", from, to: end - 1 });
    }
  }
  return tokens;
}

function blankOut(source: string): { code: string; withoutComments: string } {
  const code = source.split("");
  const withoutComments = source.split("");
  const blank = (characters: string[], from: number, to: number) => {
    for (let at = from; at < to; at += 1) if (characters[at] !== "\n") characters[at] = " ";
  };
  for (const { kind, from, to } of scanTokens(source)) {
    blank(code, from, to);
    if (kind === "comment") blank(withoutComments, from, to);
  }
  return { code: code.join(""), withoutComments: withoutComments.join("") };
}

/**
 * Returns the position after the backtick that closes a template whose inside begins at `from`.
 * Templates may nest in `${}`.
 */
function endOfTemplate(source: string, from: number): number {
  let depth = 0;
  for (let at = from; at < source.length; at += 1) {
    const character = source[at];
    if (character === "\\") at += 1;
    else if (character === "`" && depth === 0) return at + 1;
    else if (character === "`") at = endOfTemplate(source, at + 1) - 1;
    else if (character === "$" && source[at + 1] === "{") {
      depth += 1;
      at += 1;
    } else if (character === "{" && depth > 0) depth += 1;
    else if (character === "}" && depth > 0) depth -= 1;
  }
  return source.length;
}
