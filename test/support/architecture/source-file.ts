import { readFileSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { type ParsedSource, parseSource } from "./parse-source.ts";

export interface SourceFile extends ParsedSource {
  /** From the project's root, with forward slashes: "src/db/postgres/open-postgres.ts". */
  path: string;
  text: string;
}

export function toSourceFile(filePath: string, text: string): SourceFile {
  return { path: filePath, text, ...parseSource(text) };
}

/** Every TypeScript file under the folder `under` of the project, by path. */
export async function readSourceFiles(root: string, under: string): Promise<SourceFile[]> {
  const entries = await readdir(path.join(root, under), { recursive: true });
  return entries
    .filter((entry) => entry.endsWith(".ts"))
    .map((entry) => path.posix.join(under, entry))
    .toSorted()
    .map((file) => toSourceFile(file, readFileSync(path.join(root, file), "utf8")));
}

export function isTestFile(file: { path: string }): boolean {
  return file.path.endsWith(".test.ts");
}

/** The folder of src that a file belongs to, or undefined outside of src. */
export function moduleOf(filePath: string): string | undefined {
  return /^src\/(?<module>[^/]+)\//.exec(filePath)?.groups?.["module"];
}
