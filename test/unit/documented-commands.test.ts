import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { expect, it } from "vitest";
import type { Cli } from "../../src/cli/cli-context.ts";
import { commandGroups } from "../../src/cli/commands/command-groups.ts";

/** Checks that the command lines of the documents use commands and options of the CLI. */
const root = fileURLToPath(new URL("../..", import.meta.url));
const documents = [
  "README.md",
  "examples/README.md",
  ...readdirSync(path.join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".md"))
    .map((file) => path.join("docs", file)),
];
const globalOptions = ["-o", "--output", "--api-url", "--token-file", "--tenant", "--context"];

const program = await createProgram();

it.each(documents)("%s names commands and options that exist", (file) => {
  const lines = readCommandLines(readFileSync(path.join(root, file), "utf8"));
  const faults = lines.flatMap((words) =>
    findFaults(words).map((fault) => [words.join(" "), fault]),
  );
  expect(faults).toEqual([]);
});

it("finds the command lines of the documents", () => {
  const all = documents.flatMap((file) =>
    readCommandLines(readFileSync(path.join(root, file), "utf8")),
  );
  expect(all.length).toBeGreaterThan(50);
  expect(findFaults(["berth", "frobnicate"])).toEqual(["no command frobnicate"]);
  expect(findFaults(["berth", "scale", "web", "3", "--fast"])).toEqual(["no option --fast"]);
  expect(findFaults(["berth", "logs", "web", "-fx"])).toEqual(["no option -x"]);
});

async function createProgram(): Promise<Command> {
  const created = new Command("berth");
  const cli = {} as Cli; // commands use it in their actions only
  for (const { load } of commandGroups) (await load())(created, cli);
  return created;
}

/** The words of each command: a line of a code block, or inline code, that begins with berth. */
function readCommandLines(text: string): string[][] {
  const blocks = [...text.matchAll(/^```[a-z]*\n(?<code>.*?)^```/gms)].map(
    ({ groups }) => groups?.["code"] ?? "",
  );
  const indented = text.split("\n").filter((line) => line.startsWith("    "));
  const blockLines = [...blocks.flatMap((block) => block.split("\n")), ...indented];
  const inline = [...text.matchAll(/`(?<code>[^`\n]+)`/g)].map(
    ({ groups }) => groups?.["code"] ?? "",
  );
  return [...blockLines, ...inline].flatMap((line) => {
    const command = /^\s*(?:\$ )?(?:bin\/)?berth (?<rest>[a-z-].*)$/.exec(line)?.groups?.["rest"];
    if (command === undefined) return [];
    const words = command.replace(/\s#.*$/, "").split(/[|;>)]/)[0] ?? "";
    return [["berth", ...words.trim().split(/\s+/)]];
  });
}

/** Commander accepts -it for -i and -t. */
function splitShortOptions(word: string): string[] {
  return /^-[a-z]{2,}$/i.test(word) ? Array.from(word.slice(1), (letter) => `-${letter}`) : [word];
}

function findFaults([, ...words]: readonly string[]): string[] {
  let command = program;
  let rest = words;
  for (const word of words) {
    const next = command.commands.find(
      (one) => one.name() === word || one.aliases().includes(word),
    );
    if (next === undefined) break;
    command = next;
    rest = rest.slice(1);
  }
  if (command === program) return [`no command ${words[0]}`];
  const known = [...globalOptions, ...command.options.flatMap(({ short, long }) => [short, long])];
  return rest
    .filter((word) => /^-{1,2}[a-z]/i.test(word))
    .flatMap((word) => splitShortOptions(word.split("=")[0] ?? word))
    .filter((word) => !known.includes(word))
    .map((word) => `no option ${word}`);
}
