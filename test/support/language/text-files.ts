import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

interface TextFile {
  path: string;
  text: string;
}

/**
 * Every file under these folders of the project that the language rules read, and its documents.
 */
export function readTextFiles(root: string): TextFile[] {
  const under = (folder: string, ending: string) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(ending))
      .map((name) => path.posix.join(folder, name));
  return [
    ...["src", "test", "scripts"].flatMap((folder) => under(folder, ".ts")),
    ...["docs", "src"].flatMap((folder) => under(folder, ".md")),
    ...readdirSync(root).filter((name) => name.endsWith(".md")),
  ]
    .toSorted()
    .map((file) => ({ path: file, text: readFileSync(path.join(root, file), "utf8") }));
}
