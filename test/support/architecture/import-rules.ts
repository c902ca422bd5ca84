import path from "node:path";
import { compositionRoot, importTable, siblingTable } from "./import-table.ts";
import type { ImportStatement } from "./parse-source.ts";
import { isTestFile, moduleOf, type SourceFile } from "./source-file.ts";

export interface Violation {
  path: string;
  rule: string;
  detail: string;
}

const testPackages = ["vitest", "fast-check"];

/** Lists every import of `file` that the import table does not allow. */
export function findImportViolations(file: SourceFile): Violation[] {
  const from = moduleOf(file.path);
  if (from === undefined || from === compositionRoot) return [];
  const rule = importTable[from];
  if (rule === undefined) {
    return [{ path: file.path, rule: "unknown-folder", detail: `src/${from} is not in the table` }];
  }
  const folder = folderOf(file.path);
  const siblings = siblingTable[from];
  if (siblings !== undefined && folder !== undefined && !(nameOf(folder) in siblings)) {
    return [{ path: file.path, rule: "unknown-folder", detail: `${folder} is not in the table` }];
  }
  return file.imports
    .filter(
      (statement) => !isAllowed(file, from, statement) || !isSiblingAllowed(file, from, statement),
    )
    .map(({ specifier }) => ({
      path: file.path,
      rule: "import-table",
      detail: `${folder ?? from} must not import ${specifier}`,
    }));
}

/** True for all imports but those of the same first-level folder that `siblingTable` omits. */
function isSiblingAllowed(file: SourceFile, from: string, { specifier }: ImportStatement): boolean {
  const folder = folderOf(file.path);
  if (folder === undefined || isTestFile(file) || !specifier.startsWith(".")) return true;
  const allowed = siblingTable[from]?.[nameOf(folder)];
  const target = resolveImport(file.path, specifier);
  if (allowed === undefined || moduleOf(target) !== from) return true;
  return [nameOf(folder), ...allowed].some(
    (entry) => target === `src/${from}/${entry}` || target.startsWith(`src/${from}/${entry}/`),
  );
}

function nameOf(folder: string): string {
  return path.posix.basename(folder);
}

function isAllowed(file: SourceFile, from: string, statement: ImportStatement): boolean {
  const rule = importTable[from];
  if (rule === undefined) return false;
  const { specifier, isTypeOnly } = statement;
  if (specifier.startsWith("node:")) {
    if (isTestFile(file)) return true;
    return rule.node === "all" || rule.node.includes(specifier.slice("node:".length));
  }
  if (!specifier.startsWith(".")) {
    const packages = isTestFile(file) ? [...rule.packages, ...testPackages] : rule.packages;
    return packages.some((name) => specifier === name || specifier.startsWith(`${name}/`));
  }
  const target = resolveImport(file.path, specifier);
  const to = moduleOf(target);
  if (to === undefined) return isTestFile(file) && target.startsWith("test/");
  if (to === from) return true;
  const allowed = [
    ...rule.src,
    ...(isTypeOnly ? (rule.srcTypes ?? []) : []),
    ...(isTestFile(file) ? (rule.srcOfTests ?? []) : []),
  ];
  return allowed.some(
    (entry) => entry === to || `src/${entry}` === target || target.startsWith(`src/${entry}/`),
  );
}

/** A path from the project's root. */
export function resolveImport(importer: string, specifier: string): string {
  return path.posix.normalize(path.posix.join(path.posix.dirname(importer), specifier));
}

/**
 * One violation per cycle of imports. Type imports count: a cycle of types is a cycle for the
 * reader.
 */
export function findCycles(files: readonly SourceFile[]): Violation[] {
  return cyclesOf(new Map(files.map((file) => [file.path, importedPaths(file)])), "cycle");
}

/**
 * One violation per cycle between the second-level folders of one layer (src/control/sets,
 * src/control/hosts). Files directly in a layer's folder belong to no second-level folder.
 */
export function findFolderCycles(files: readonly SourceFile[]): Violation[] {
  const graph = new Map<string, Set<string>>();
  for (const file of files) {
    const from = folderOf(file.path);
    if (from === undefined || isTestFile(file)) continue;
    const targets = graph.get(from) ?? new Set();
    graph.set(from, targets);
    for (const target of importedPaths(file)) {
      const to = folderOf(target);
      if (to !== undefined && to !== from && moduleOf(target) === moduleOf(file.path))
        targets.add(to);
    }
  }
  return cyclesOf(graph, "folder-cycle");
}

function folderOf(file: string): string | undefined {
  return /^src\/[^/]+\/[^/]+(?=\/)/.exec(file)?.[0];
}

function cyclesOf(graph: ReadonlyMap<string, Iterable<string>>, rule: string): Violation[] {
  const done = new Set<string>();
  const violations: Violation[] = [];
  const visit = (at: string, trail: string[]): void => {
    const start = trail.indexOf(at);
    if (start >= 0) {
      violations.push({ path: at, rule, detail: [...trail.slice(start), at].join(" -> ") });
      return;
    }
    if (done.has(at)) return;
    for (const target of graph.get(at) ?? []) visit(target, [...trail, at]);
    done.add(at);
  };
  for (const start of graph.keys()) visit(start, []);
  return violations;
}

function importedPaths(file: SourceFile): string[] {
  return file.imports
    .filter(({ specifier }) => specifier.startsWith("."))
    .map(({ specifier }) => resolveImport(file.path, specifier));
}
