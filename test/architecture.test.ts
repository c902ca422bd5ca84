import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { jobPayloads } from "../src/contracts/jobs.ts";
import { problemCatalog } from "../src/contracts/common/problems.ts";
import { findHouseViolations, houseRules } from "./support/architecture/house-rules.ts";
import {
  findCycles,
  findFolderCycles,
  findImportViolations,
} from "./support/architecture/import-rules.ts";
import { findJournalProblems } from "./support/architecture/migration-rules.ts";
import { parseSource } from "./support/architecture/parse-source.ts";
import { readSourceFiles, toSourceFile } from "./support/architecture/source-file.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const src = await readSourceFiles(root, "src");
const test = await readSourceFiles(root, "test");
const scripts = await readSourceFiles(root, "scripts");

describe("the project", () => {
  it("imports only what the table allows", () => {
    expect(src.length).toBeGreaterThan(0);
    expect(src.flatMap(findImportViolations)).toEqual([]);
  });

  it("has no import cycles, type imports included", () => {
    expect(findCycles(src)).toEqual([]);
  });

  it("has no import cycles between the folders of a layer", () => {
    expect(findFolderCycles(src)).toEqual([]);
  });

  it("follows the rules for source files", () => {
    expect([...src, ...test, ...scripts].flatMap(findHouseViolations)).toEqual([]);
  });

  it("has a complete migration journal", () => {
    const sqlFiles = readdirSync(path.join(root, "drizzle")).filter((name) =>
      name.endsWith(".sql"),
    );
    const journal: unknown = JSON.parse(readText("drizzle/meta/_journal.json"));
    expect(findJournalProblems(journal, sqlFiles)).toEqual([]);
  });

  it("documents every problem code", () => {
    const headings = new Set(readText("docs/problems.md").match(/(?<=^## ).+$/gm));
    expect(headings).toEqual(new Set(Object.keys(problemCatalog)));
  });

  it("documents every job", () => {
    const headings = new Set(readText("docs/jobs.md").match(/(?<=^## ).+$/gm));
    expect(headings).toEqual(new Set(Object.keys(jobPayloads)));
  });

  it("ARCHITECTURE.md states where each invariant is enforced", () => {
    const text = readText("ARCHITECTURE.md");
    const numbers = Array.from({ length: 21 }, (_, index) => `I${index + 1}`);
    expect(numbers.filter((number) => !new RegExp(`\\b${number}\\b`).test(text))).toEqual([]);
  });

  it("has no dead link between its documents", () => {
    expect(findDocuments().flatMap(findDeadLinks)).toEqual([]);
  });
});

describe("the checker", () => {
  it.each([
    ["src/routes/services/list.ts", 'import { db } from "../../db/client.ts";'],
    ["src/routes/services/list.ts", 'import type { Db } from "../../db/client.ts";'],
    ["src/routes/app.ts", 'import { eq } from "drizzle-orm";'],
    ["src/routes/app.ts", 'const m = await import("../scheduler/placement/plan.ts");'],
    ["src/routes/app.ts", 'import { readFile } from "node:fs/promises";'],
    ["src/control/place.ts", 'import { Hono } from "hono";'],
    ["src/control/place.ts", 'export { x } from "../jobs/queues.ts";'],
    ["src/control/place.ts", 'import {\n  Queue,\n  type Job,\n} from "bullmq";'],
    [
      "src/jobs/sweeps/relay.ts",
      'import { listOutbox } from "../../db/queries/runtime/outbox.ts";',
    ],
    ["src/agent/loop.ts", 'import { plan } from "../scheduler/plan.ts";'],
    ["src/agent/loop/agent.ts", 'import { readFile } from "node:fs/promises";'],
    ["src/agent/loop/agent.ts", 'import { x } from "../../host-adapters/machine/clock.ts";'],
    ["src/host-adapters/docker/a.ts", 'import { Agent } from "../../agent/loop/agent.ts";'],
    ["src/host-adapters/docker/a.ts", 'import { x } from "../cgroups/read-cgroup.ts";'],
    ["src/host-adapters/docker/a.ts", 'import type { X } from "../volumes/set-volumes.ts";'],
    ["src/host-adapters/volumes/a.ts", 'import { x } from "../machine/system-clock.ts";'],
    ["src/agent/engine/a.ts", 'import { Agent } from "../loop/agent.ts";'],
    ["src/agent/engine/a.ts", 'import type { SetHistory } from "../set/set-history.ts";'],
    ["src/agent/engine/a.ts", 'import { readFile } from "node:fs/promises";'],
    ["src/agent/engine/a.ts", 'import { x } from "../../host-adapters/docker/docker-api.ts";'],
    ["src/agent/set/a.ts", 'import { x } from "../engine/prepare-set.ts";'],
    ["src/agent/ports/a.ts", 'import { x } from "../engine/engine-context.ts";'],
    ["src/agent/base/a.ts", 'import type { X } from "../model/local-set.ts";'],
    ["src/network-driver/flows/a.ts", 'import { x } from "../ports/switch-port.ts";'],
    ["src/network-driver/ports/a.ts", 'import { connect } from "node:net";'],
    ["src/scheduler/placement/plan.ts", 'import { randomBytes } from "node:crypto";'],
    ["src/scheduler/placement/plan.ts", 'import { z } from "zod";'],
    ["src/scheduler/plan.ts", 'import { newId } from "../lib/ids.ts";'],
    ["src/scheduler/plan.ts", 'import { dimensions } from "../contracts/sets.ts";'],
    ["src/contracts/api/sets.ts", 'import { createHash } from "node:crypto";'],
    ["src/lib/ids.ts", 'import { idSchema } from "../contracts/primitives.ts";'],
    ["src/db/client.ts", 'import "../main/api.ts";'],
    ["src/cli/apply.ts", 'import { loadConfig } from "../config/api.ts";'],
  ])("reports in %s: %s", (file, text) => {
    const violations = findImportViolations(toSourceFile(file, text));
    expect(violations.map(({ rule }) => rule)).toEqual(["import-table"]);
  });

  it.each([
    [
      "src/routes/services/list.ts",
      'import { listServices } from "../../control/services/list.ts";',
    ],
    ["src/routes/agent/sync.ts", 'import { app } from "../agent/enroll.ts";'],
    ["src/scheduler/plan.ts", 'import type { Reason } from "../contracts/primitives.ts";'],
    ["src/scheduler/plan.ts", 'import { assert } from "../lib/assert.ts";'],
    ["src/scheduler/plan.test.ts", 'import fc from "fast-check";'],
    ["src/host-adapters/docker/a.ts", 'import type { Clock } from "../../agent/base/clock.ts";'],
    [
      "src/host-adapters/ovs/a.ts",
      'import { SwitchError } from "../../network-driver/ports/b.ts";',
    ],
    ["src/host-adapters/docker/a.ts", 'import { runCommand } from "../exec.ts";'],
    ["src/host-adapters/docker/a.ts", 'import { x } from "./call-docker.ts";'],
    ["src/host-adapters/simulated/a.test.ts", 'import { x } from "../machine/x.ts";'],
    ["src/agent/engine/a.ts", 'import type { LogPort } from "../ports/log-port.ts";'],
    ["src/agent/loop/a.ts", 'import { x } from "../engine/set-engine.ts";'],
    ["src/agent/loop/a.test.ts", 'import { x } from "../../host-adapters/simulated/x.ts";'],
    ["src/scheduler/placement/plan.ts", '// import { z } from "zod";\nexport const a = "x";'],
    ["src/scheduler/placement/plan.ts", 'export const a = `\nimport { z } from "zod";\n`;'],
    ["src/main/api.ts", 'import { createApp } from "../routes/app.ts";'],
  ])("lets pass in %s: %s", (file, text) => {
    expect(findImportViolations(toSourceFile(file, text))).toEqual([]);
  });

  it("reports a folder that the tables do not know", () => {
    for (const file of ["src/extras/one.ts", "src/host-adapters/extras/one.ts"]) {
      const [violation] = findImportViolations(toSourceFile(file, ""));
      expect(violation?.rule).toBe("unknown-folder");
    }
  });

  const badSamples: [rule: string, file: string, text: string][] = [
    ["file-name", "src/lib/utils.ts", ""],
    ["file-name", "src/control/index.ts", ""],
    ["file-name", "src/control/set-manager.ts", ""],
    ["file-length", "src/lib/long.ts", "x;\n".repeat(401)],
    ["task-note", "test/unit/a.ts", `// ${["TO", "DO"].join("")}: later`],
    ["task-note", "src/lib/a.ts", `// ${["FIX", "ME"].join("")}`],
    ["barrel", "src/lib/all.ts", 'export * from "./a.ts";\n// and\nexport { b } from "./b.ts";\n'],
    ["default-export", "src/lib/a.ts", "export default 1;"],
    ["environment", "src/config/api.ts", 'const level = process.env["LEVEL"];'],
    ["child-process", "src/host-adapters/lvm.ts", 'import { spawn } from "node:child_process";'],
    ["shell", "src/host-adapters/exec.ts", "spawn(name, args, { shell: true });"],
    ["pure-scheduler", "src/scheduler/placement/plan.ts", "const at = Date.now();"],
    ["pure-scheduler", "src/scheduler/placement/plan.ts", "export async function plan() {}"],
    ["pure-scheduler", "src/scheduler/placement/plan.ts", "const r = Math.random();"],
    ["pure-set", "src/agent/set/a.ts", "export async function reconcile() {}"],
    ["agent-clock", "src/agent/loop/a.ts", "const timer = setTimeout(end, 1_000);"],
    ["agent-clock", "src/agent/loop/a.ts", "const startedAtMs = performance.now();"],
    ["agent-clock", "src/agent/loop/a.ts", "const at = new Date().toISOString();"],
    ["agent-clock", "src/agent/loop/a.ts", "const waitMs = 1_000 * Math.random();"],
    ["abort-listener", "src/agent/loop/a.ts", 'signal.addEventListener("abort", end);'],
    ["abort-listener", "src/host-adapters/a.ts", "AbortSignal.any([signal, late.signal])"],
    ["named-columns", "src/db/queries/hosts/a.ts", "await q.insert(hosts).values(host);"],
    ["named-columns", "src/db/queries/hosts/a.ts", "q.select().from(hosts)"],
    ["named-columns", "src/db/queries/hosts/a.ts", "q.delete(hosts).where(old).returning()"],
    ["bare-worker", "src/jobs/run.ts", "const worker = start();"],
    ["bare-worker", "src/jobs/run.ts", "export function startWorkers() {}"],
  ];
  it.each(badSamples)("reports %s in %s: %j", (rule, file, text) => {
    expect(findHouseViolations(toSourceFile(file, text)).map((found) => found.rule)).toEqual([
      rule,
    ]);
  });

  it("every rule rejects its bad sample", () => {
    const sampled = new Set(badSamples.map(([rule]) => rule));
    expect(sampled).toEqual(new Set(houseRules.map(({ name }) => name)));
  });

  it.each([
    ["src/agent/a.ts", "// process.env is read in main\nexport const a = 'process.env.X';"],
    ["src/agent/a.ts", "const text = new Date(clock.wallMs()).toISOString();"],
    ["src/scheduler/a.ts", "/** Takes no Date and no Promise. */\nexport const a = 1;"],
    ["src/jobs/a.ts", "const jobWorker = new Worker<Payload>(name, run);"],
    ["src/db/queries/hosts/a.ts", "q.select({ id }).from(hosts);\nq.returning({ id });"],
    ["src/lib/a.ts", 'export { b } from "./b.ts";\nexport const c = 1;'],
    ["src/lib/a.ts", `// ${["TO", "DO"].join("")}(#12): when the issue is done`],
  ])("lets pass in %s: %s", (file, text) => {
    expect(findHouseViolations(toSourceFile(file, text))).toEqual([]);
  });

  it("reports a cycle once, even if type imports cause it", () => {
    const one = toSourceFile("src/lib/one.ts", 'import { two } from "./two.ts";');
    const typed = toSourceFile("src/lib/two.ts", 'import type { One } from "./one.ts";');
    expect(findCycles([one, typed]).map(({ detail }) => detail)).toEqual([
      "src/lib/one.ts -> src/lib/two.ts -> src/lib/one.ts",
    ]);
  });

  it("reports a cycle between two folders whose files have none", () => {
    const files = [
      toSourceFile("src/control/sets/one.ts", 'import { two } from "../hosts/two.ts";'),
      toSourceFile("src/control/hosts/two.ts", ""),
      toSourceFile("src/control/hosts/three.ts", 'import type { Four } from "../sets/four.ts";'),
      toSourceFile("src/control/sets/four.ts", ""),
    ];
    expect(findCycles(files)).toEqual([]);
    expect(findFolderCycles(files).map(({ rule, detail }) => [rule, detail])).toEqual([
      ["folder-cycle", "src/control/sets -> src/control/hosts -> src/control/sets"],
    ]);
  });

  it("reports a journal that is out of order or incomplete, or lists a missing file", () => {
    const entries = [
      { idx: 0, when: 10, tag: "0000_a" },
      { idx: 2, when: 10, tag: "0001_b" },
    ];
    expect(findJournalProblems({ entries }, ["0000_a.sql", "0002_c.sql"])).toEqual([
      "0001_b: idx 2 at place 1",
      "0001_b: not newer than 0000_a, it would be skipped",
      "0001_b: its file is missing",
      "0002_c.sql: not listed",
    ]);
  });

  it("ignores imports and quotes in strings, templates and regular expressions", () => {
    const text = [
      "const quote = /[\"'`]/g;",
      "const half = total / 2; // it's half",
      'const nested = `a ${`b ${c} "`} d`;',
      'import { real } from "./real.ts";',
    ].join("\n");
    const { imports, code } = parseSource(text);
    expect(imports).toEqual([{ specifier: "./real.ts", isTypeOnly: false }]);
    expect(code.split("\n").map((line) => line.trim().length > 0)).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(code).not.toContain("half\n//");
  });
});

function readText(file: string): string {
  return readFileSync(path.join(root, file), "utf8");
}

function findDocuments(): string[] {
  const markdown = (name: string) => name.endsWith(".md");
  const docs = readdirSync(path.join(root, "docs"), { recursive: true, encoding: "utf8" });
  const readmes = ["src", "test", "examples"].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter(markdown)
      .map((name) => path.join(folder, name)),
  );
  return [
    ...readdirSync(root).filter(markdown),
    ...docs.filter(markdown).map((name) => path.join("docs", name)),
    ...readmes,
  ];
}

function findDeadLinks(document: string): string[] {
  const targets = readText(document).matchAll(/\]\((?<target>[^)#\s]+)(?:#[^)]*)?\)/g);
  return [...targets]
    .map((match) => match.groups?.["target"] ?? "")
    .filter((target) => !/^[a-z]+:/.test(target))
    .filter((target) => !existsSync(path.join(root, path.dirname(document), target)))
    .map((target) => `${document}: ${target}`);
}
