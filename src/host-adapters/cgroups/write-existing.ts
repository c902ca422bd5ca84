import { writeFile } from "node:fs/promises";

/** Writes a file, or does nothing if the kernel does not have it. */
export async function writeExisting(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: "r+" }).catch(ignoreMissing);
}

export function ignoreMissing(error: unknown): undefined {
  const { code } = error as { code?: unknown };
  if (code === "ENOENT" || code === "ENOTDIR") return undefined;
  throw error;
}
