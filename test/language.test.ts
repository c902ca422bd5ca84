import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { deniedIdentifierWords, deniedWords } from "./support/language/deny-list.ts";
import { findLanguageViolations, languageRules } from "./support/language/language-rules.ts";
import { readTextFiles } from "./support/language/text-files.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const files = readTextFiles(root);
/** Enough to see the pattern; `npm run language -- PATH` lists all of them. */
const SHOWN_MAX = 40;

describe("the texts of the project", () => {
  it("keep the language rules of STYLE.md", () => {
    const violations = files.flatMap(findLanguageViolations);
    const shown = violations.map(({ path, rule, detail }) => `${path} ${rule}: ${detail}`);
    expect(shown.slice(0, SHOWN_MAX)).toEqual([]);
  });
});

const words = (count: number) => Array.from({ length: count }, () => "word").join(" ");

describe("the language rules", () => {
  const bad: [rule: string, file: string, text: string][] = [
    ["denied-word", "src/lib/a.ts", "/** Creates the plan anew. */"],
    ["denied-word", "src/lib/a.ts", 'const detail = "Nobody waits for the set.";'],
    ["denied-word", "src/cli/a.ts", "const help = `removes ${set} when it is gone`;"],
    ["denied-word", "test/unit/a.test.ts", 'it("carries out a change once", () => {});'],
    ["denied-word", "test/unit/a.test.ts", 'it.each([1, 2])("keeps %s that are kept", () => {});'],
    ["denied-word", "docs/a.md", "A machine enrols\nonce."],
    ["denied-word", "docs/a.md", "| name | meaning |\n|---|---|\n| grace | the host is away |"],
    ["begins-with-what", "src/lib/a.ts", "// What is left over waits."],
    ["begins-with-what", "docs/a.md", "## What it does not do"],
    ["begins-with-what", "docs/a.md", "It ends; what is left waits."],
    ["sentence-length", "src/lib/a.ts", `/** It has\n * ${words(12)}\n * ${words(12)}. */`],
    ["sentence-length", "docs/a.md", `- It has ${words(12)}\n  ${words(12)}.`],
    [
      "denied-word",
      "systemd/a.service",
      "[Service]\n# It may be away\n# for long.\nRestart=always",
    ],
    ["denied-word", "examples/a.yaml", "kind: Service\nreplicas: 2 # the sets that are kept"],
    ["fragment", "src/lib/a.ts", "/** Of its volume. */"],
    ["fragment", "src/lib/a.ts", "/** Reads a set. The same for all of the sets of one host. */"],
    ["title-fragment", "test/unit/a.test.ts", 'it("that is over does not begin again", () => {});'],
    ["comment-columns", "src/lib/a.ts", `${" ".repeat(85)}// a comment of code`],
    ["comment-columns", "test/unit/a.ts", `/**\n * ${"word ".repeat(20)}.\n */`],
    ["table-cell", "docs/a.md", `| ${"constructions ".repeat(8)} |`],
    ["identifier", "src/lib/a.ts", "const keptPlans = 1;"],
    ["identifier", "src/lib/a.ts", "export function carryOutSteps() {}"],
    ["identifier", "src/lib/doorbell.ts", ""],
  ];
  it.each(bad)("report %s in %s: %j", (rule, path, text) => {
    expect(findLanguageViolations({ path, text }).map((found) => found.rule)).toEqual([rule]);
  });

  it("every rule rejects its bad sample", () => {
    const sampled = new Set(bad.map(([rule]) => rule));
    expect(sampled).toEqual(new Set(languageRules.map(({ name }) => name)));
  });

  it.each([
    ["src/lib/a.ts", "/** Returns the plan of a set, or undefined. Repeats the call once. */"],
    ["src/lib/a.ts", 'const state = "gone";\nconst why = "stays outstanding for now";'],
    ["src/db/queries/a.ts", "const q = sql`select room from hosts where it is gone`;"],
    ["src/lib/a.ts", "// See https://example.org/" + "a".repeat(100)],
    ["src/lib/a.ts", `/** It has ${words(12)}\n * ${words(11)}.\n * Then ${words(12)}. */`],
    ["src/lib/a.ts", "const string = 1;\nconst outstanding = 2;\nconst planes = 3;"],
    ["test/unit/a.test.ts", 'const name = "a set that is gone by now";'],
    ["docs/a.md", "Run this:\n\n    berth get gone things away\n\n```\nanew and away\n```"],
    ["systemd/a.service", "Description=A unit that is away and gone"],
    ["examples/a.sh", "#!/bin/sh -away\necho gone"],
    ["docs/a.md", "`gone` is a state. What happened?"],
    ["docs/a.md", `- ${words(20)}\n- ${words(20)}\n\n${words(20)}`],
  ])("let pass in %s: %j", (path, text) => {
    expect(findLanguageViolations({ path, text })).toEqual([]);
  });

  it.each(deniedWords.map(({ sample, better }) => [sample, better] as const))(
    "report %j and name the better word",
    (sample, better) => {
      const [violation, ...others] = findLanguageViolations({ path: "docs/a.md", text: sample });
      expect(violation?.rule).toBe("denied-word");
      expect(violation?.detail).toContain(better);
      expect(others).toEqual([]);
    },
  );

  it("report every denied word of identifiers in camel case", () => {
    for (const [denied] of deniedIdentifierWords) {
      const name = `old ${denied}`.replaceAll(/ (\w)/g, (_, letter: string) =>
        letter.toUpperCase(),
      );
      const found = findLanguageViolations({ path: "src/lib/a.ts", text: `const ${name} = 1;` });
      expect(
        found.map(({ rule }) => rule),
        name,
      ).toEqual(["identifier"]);
    }
  });

  it("name the line of a violation", () => {
    const text = "const a = 1;\n\n/**\n * Reads it.\n *\n * It starts anew.\n */";
    expect(findLanguageViolations({ path: "src/lib/a.ts", text })[0]?.path).toBe("src/lib/a.ts:6");
  });
});
