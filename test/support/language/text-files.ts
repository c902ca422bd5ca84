import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/** Files whose comments begin with `#`. */
export const configurationEndings = [".service", ".yaml", ".yml", ".env", ".sh"] as const;

interface TextFile {
  path: string;
  text: string;
}

/**
 * Reads every file whose prose the language rules check: sources, documents, and the comments of
 * systemd units and examples.
 */
export function readTextFiles(root: string): TextFile[] {
  const under = (folder: string, ending: string) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(ending))
      .map((name) => path.posix.join(folder, name));
  return [
    ...["src", "test", "scripts"].flatMap((folder) => under(folder, ".ts")),
    ...["docs", "src"].flatMap((folder) => under(folder, ".md")),
    ...["systemd", "examples"].flatMap((folder) =>
      configurationEndings.flatMap((ending) => under(folder, ending)),
    ),
    ...under("examples", ".md"),
    ...readdirSync(root).filter((name) => name.endsWith(".md")),
  ]
    .toSorted()
    .map((file) => ({ path: file, text: readFileSync(path.join(root, file), "utf8") }));
}
