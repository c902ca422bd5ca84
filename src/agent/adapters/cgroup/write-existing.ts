import { writeFile } from "node:fs/promises";

/** Nothing to do where the kernel has no such file. */
export async function writeExisting(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: "r+" }).catch(ignoreMissing);
}

export function ignoreMissing(error: unknown): undefined {
  const { code } = error as { code?: unknown };
  if (code === "ENOENT" || code === "ENOTDIR") return undefined;
  throw error;
}
