import type { Violation } from "./import-rules.ts";
import { isTestFile, moduleOf, type SourceFile } from "./source-file.ts";

interface HouseRule {
  name: string;
  /** Whether the rule applies to a file. */
  appliesTo(file: SourceFile): boolean;
  /** Returns the violation in the file, or undefined. */
  check(file: SourceFile): string | undefined;
}

const linesMax = 400;
/** Each test is independent, so readers also read long files one test at a time. */
const testLinesMax = 600;
const isInSrc = (file: SourceFile) => moduleOf(file.path) !== undefined;
const isCode = (file: SourceFile) => isInSrc(file) && !isTestFile(file);
const everywhere = () => true;

/**
 * A rule that forbids a pattern in the code, where comments and the inside of strings do not count.
 */
function forbid(
  name: string,
  appliesTo: HouseRule["appliesTo"],
  pattern: RegExp,
  why: string,
): HouseRule {
  return {
    name,
    appliesTo,
    check: (file) => {
      const match = pattern.exec(file.code);
      return match === null ? undefined : `"${match[0].trim()}": ${why}`;
    },
  };
}

const forbiddenName =
  /^(index|utils?|helpers?|types|common|misc|shared)$|(^|-)(manager|handler|utils?|helpers?)s?$/;

export const houseRules: readonly HouseRule[] = [
  {
    name: "file-name",
    appliesTo: isInSrc,
    check: (file) => {
      const name =
        file.path
          .split("/")
          .at(-1)
          ?.replace(/(\.test)?\.ts$/, "") ?? "";
      return forbiddenName.test(name) ? `"${name}" says nothing of what is in it` : undefined;
    },
  },
  {
    name: "file-length",
    appliesTo: everywhere,
    check: (file) => {
      const lines = file.text.trimEnd().split("\n").length;
      const max = isInSrc(file) && !isTestFile(file) ? linesMax : testLinesMax;
      return lines > max ? `${lines} lines, at most ${max}` : undefined;
    },
  },
  {
    name: "task-note",
    appliesTo: everywhere,
    check: (file) => /\b(?:TO[D]O(?!\(#\d+\))|FI[X]ME|X[X]X)\b.*/.exec(file.text)?.[0],
  },
  {
    name: "barrel",
    appliesTo: isCode,
    check: (file) => {
      const rest = file.code.replaceAll(
        /export\s+(?:type\s+)?(?:\*(?:\s+as\s+\w+)?|\{[^}]*\})\s*from\s*["'][^"']*["'];?/g,
        "",
      );
      const isBarrel = rest !== file.code && rest.trim() === "";
      return isBarrel ? "a file that only passes on what others export" : undefined;
    },
  },
  forbid(
    "default-export",
    // Cloudflare calls the default export of its entry.
    (file) => isInSrc(file) && file.path !== "src/main/edge.ts",
    /\bexport\s+default\b|\bas\s+default\b/,
    "exports have names",
  ),
  forbid(
    "environment",
    (file) => isCode(file) && moduleOf(file.path) !== "main",
    /\bprocess\s*(?:\?\.|\.)\s*env\b/,
    "only src/main reads the environment",
  ),
  {
    name: "child-process",
    appliesTo: (file) =>
      isCode(file) && moduleOf(file.path) !== "main" && file.path !== "src/host-adapters/exec.ts",
    check: (file) =>
      file.imports.find(({ specifier }) => /^(node:)?child_process$/.test(specifier))?.specifier,
  },
  forbid("shell", everywhere, /\bshell\s*:\s*true\b/, "programs get a list of arguments"),
  forbid(
    "pure-scheduler",
    (file) => isCode(file) && moduleOf(file.path) === "scheduler",
    /\b(?:async|await|Promise|Date|performance|process|globalThis|setTimeout|setInterval)\b|\bMath\s*\.\s*random\b/,
    "the scheduler core has no clock, no randomness and no I/O",
  ),
  forbid(
    "pure-set",
    (file) => isCode(file) && file.path.startsWith("src/agent/set/"),
    /\b(?:async|await|Promise|AbortSignal|process|globalThis)\b/,
    "the decisions about a set have no I/O and wait for nothing",
  ),
  forbid(
    "agent-clock",
    (file) => isCode(file) && moduleOf(file.path) === "agent",
    /\b(?:performance|setTimeout|setInterval|setImmediate|Date\s*\.\s*now|Math\s*\.\s*random)\b|\bnew\s+Date\s*\(\s*\)/,
    "the agent has the time from its Clock, and random numbers from its options",
  ),
  forbid(
    "abort-listener",
    (file) =>
      isCode(file) &&
      ["agent", "network-driver", "host-adapters"].includes(moduleOf(file.path) ?? ""),
    // On Node 20 each AbortSignal.any of a signal that lives on leaks memory, 67 bytes to 2.8 KiB.
    /\b(?:addEventListener|AbortSignal\s*\.\s*any)\b/,
    "wait for the abort of a signal with onAbort or runAbortable, which remove their listener",
  ),
  forbid(
    "named-columns",
    (file) => isCode(file) && file.path.startsWith("src/db/queries/"),
    // A bare selection, and an insert by the builder, name each column of the table.
    /\.\s*insert\s*\(|\.\s*(?:select(?:Distinct)?|returning)\s*\(\s*\)/,
    "a statement names only the columns that it uses, see insertInto",
  ),
  {
    name: "bare-worker",
    appliesTo: isCode,
    check: (file) => {
      // "Worker" and "WorkerOptions" are BullMQ's names. Berth's word is job worker.
      const names = file.code.match(/[A-Za-z_$][\w$]*/g) ?? [];
      const isBare = (name: string) =>
        /worker/i.test(name) &&
        !/job_?worker|edge|cloudflare|workerd/i.test(name) &&
        !/^Worker(?:Options)?$/.test(name) &&
        name !== "maxWorkers" &&
        name !== "max_parallel_workers_per_gather"; // a setting of Postgres
      const bare = names.find(isBare);
      return bare === undefined ? undefined : `"${bare}": say which worker, for us a job worker`;
    },
  },
];

/** Lists the violations of the rules that check one file alone. */
export function findHouseViolations(file: SourceFile): Violation[] {
  return houseRules.flatMap((rule) => {
    if (!rule.appliesTo(file)) return [];
    const detail = rule.check(file);
    return detail === undefined ? [] : [{ path: file.path, rule: rule.name, detail }];
  });
}
