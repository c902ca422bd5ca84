import type { Violation } from "../architecture/import-rules.ts";
import { parseSource } from "../architecture/parse-source.ts";
import { deniedIdentifierWords, deniedWords } from "./deny-list.ts";
import {
  type Prose,
  readConfigurationProse,
  readDocumentProse,
  readSourceProse,
} from "./read-prose.ts";
import { configurationEndings } from "./text-files.ts";

const SENTENCE_WORDS_MAX = 25;
const COMMENT_COLUMNS_MAX = 100;
/** A cell of this length still fits on one line of a rendered page. */
const CELL_CHARACTERS_MAX = 100;

/** The beginning of a title that continues the sentence of its group. */
const titleFragment =
  /^(?:that|whose|which|of|with|without|and|though|although|alone|absent|followed) /;

interface TextFile {
  path: string;
  text: string;
}

interface Finding {
  line: number;
  detail: string;
}

interface LanguageRule {
  name: string;
  check(file: TextFile, prose: readonly Prose[]): Finding[];
}

/** Applies `find` to each sentence of the prose. */
function eachSentence(
  name: string,
  find: (sentence: string, prose: Prose) => string | undefined,
): LanguageRule {
  return {
    name,
    check: (_file, prose) =>
      prose.flatMap((one) =>
        splitSentences(one.text).flatMap((sentence) => {
          const detail = find(sentence, one);
          return detail === undefined ? [] : [{ line: one.line, detail }];
        }),
      ),
  };
}

export const languageRules: readonly LanguageRule[] = [
  eachSentence("denied-word", (sentence) => {
    const found = deniedWords.flatMap(({ pattern, better }) => {
      const match = pattern.exec(sentence);
      return match === null ? [] : [`"${match[0]}" (better: ${better})`];
    });
    return found.length === 0 ? undefined : `${found.join(", ")} in: ${excerpt(sentence)}`;
  }),
  eachSentence("begins-with-what", (sentence) =>
    /^["'(]?What\b(?!.*\?$)|[;:] what (?:is|was|are|has|does)\b/.test(sentence)
      ? `name the thing instead of "what": ${excerpt(sentence)}`
      : undefined,
  ),
  eachSentence("sentence-length", (sentence) => {
    const words = countWords(sentence);
    return words > SENTENCE_WORDS_MAX
      ? `${words} words, at most ${SENTENCE_WORDS_MAX}: ${excerpt(sentence)}`
      : undefined;
  }),
  eachSentence("fragment", (sentence, { kind }) => {
    if (kind === "text" || kind === "cell" || kind === "heading") return undefined;
    const isFragment =
      /^The same (?:by|for|of|as|with|in|but|where)\b/.test(sentence) ||
      (/^(?:Of|By|Nor|So few|Likewise|Ditto)\b/.test(sentence) && countWords(sentence) <= 6);
    return isFragment ? `write a whole sentence: ${excerpt(sentence)}` : undefined;
  }),
  eachSentence("title-fragment", (sentence, { kind }) =>
    kind === "title" && titleFragment.test(sentence)
      ? `begin the title with its subject or verb: ${excerpt(sentence)}`
      : undefined,
  ),
  {
    name: "comment-columns",
    check: ({ path, text }) => (path.endsWith(".ts") ? findLongComments(text) : []),
  },
  {
    name: "table-cell",
    check: (_file, prose) =>
      prose.flatMap(({ kind, line, text }) =>
        kind === "cell" && text.length > CELL_CHARACTERS_MAX
          ? [
              {
                line,
                detail: `${text.length} characters, at most ${CELL_CHARACTERS_MAX}: ${excerpt(text)}`,
              },
            ]
          : [],
      ),
  },
  {
    name: "identifier",
    check: ({ path, text }) => (path.endsWith(".ts") ? findDeniedIdentifiers(path, text) : []),
  },
];

/** Lists the violations of the language rules in a source, a document, or a configuration file. */
export function findLanguageViolations(file: TextFile): Violation[] {
  const prose = readProse(file);
  return languageRules.flatMap((rule) =>
    rule.check(file, prose).map(({ line, detail }) => ({
      path: `${file.path}:${line}`,
      rule: rule.name,
      detail,
    })),
  );
}

function readProse({ path, text }: TextFile): Prose[] {
  if (path.endsWith(".ts")) return readSourceProse(path, text);
  return configurationEndings.some((ending) => path.endsWith(ending))
    ? readConfigurationProse(text)
    : readDocumentProse(text);
}

function splitSentences(text: string): string[] {
  return text
    .replaceAll(/\b(?:e\.g|i\.e|etc|vs)\./g, (short) => short.replaceAll(".", ""))
    .split(/(?<=[.!?]["')\]]*)\s+/)
    .filter((sentence) => sentence !== "");
}

function countWords(sentence: string): number {
  return sentence.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
}

function findLongComments(text: string): Finding[] {
  const { withoutComments } = parseSource(text);
  const codeLines = withoutComments.split("\n");
  return text.split("\n").flatMap((line, index) => {
    const hasComment =
      line.slice(COMMENT_COLUMNS_MAX) !== (codeLines[index] ?? "").slice(COMMENT_COLUMNS_MAX);
    return hasComment && !/https?:\/\//.test(line)
      ? [{ line: index + 1, detail: `${line.length} columns, at most ${COMMENT_COLUMNS_MAX}` }]
      : [];
  });
}

const deniedIdentifier = new RegExp(`\\b(?:${[...deniedIdentifierWords.keys()].join("|")})\\b`);

function findDeniedIdentifiers(path: string, text: string): Finding[] {
  const { code } = parseSource(text);
  const seen = new Set<string>();
  const findings: Finding[] = [];
  const check = (name: string, line: number) => {
    if (seen.has(name)) return;
    seen.add(name);
    const denied = deniedIdentifier.exec(wordsOf(name))?.[0];
    if (denied === undefined) return;
    const better = deniedIdentifierWords.get(denied);
    findings.push({ line, detail: `"${name}" (better than "${denied}": ${better})` });
  };
  check(
    path
      .split("/")
      .at(-1)
      ?.replace(/(?:\.test)?\.ts$/, "") ?? "",
    1,
  );
  for (const [index, line] of code.split("\n").entries()) {
    for (const [name] of line.matchAll(/[A-Za-z_$][\w$]*/g)) check(name, index + 1);
  }
  return findings;
}

/** Splits an identifier into its words in lower case. */
function wordsOf(name: string): string {
  return name
    .replaceAll(/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_$-]+/g, " ")
    .toLowerCase();
}

function excerpt(text: string): string {
  return text.length > 160 ? `${text.slice(0, 157)}...` : text;
}
