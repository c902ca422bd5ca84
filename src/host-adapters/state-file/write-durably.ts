import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";

/** Removes the temporary files of killed processes. */
export async function removeTemporaries(file: string): Promise<void> {
  const folder = path.dirname(file);
  const names = await readdir(folder).catch(() => []);
  const old = names.filter((name) => name.startsWith(path.basename(file)) && name.endsWith(".new"));
  await Promise.all(old.map((name) => rm(path.join(folder, name), { force: true })));
}

/**
 * Replaces a file that only its owner can read: after a power failure it has its previous or its
 * new text. Each write has a temporary file of its own. Two processes that share the folder by
 * mistake thus never mix their texts in one file.
 */
export async function writeDurably(file: string, text: string): Promise<void> {
  const folder = path.dirname(file);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = `${file}.${randomUUID()}.new`;
  const handle = await open(temporary, "wx", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  const folderHandle = await open(folder, "r");
  try {
    await folderHandle.sync();
  } finally {
    await folderHandle.close();
  }
}
