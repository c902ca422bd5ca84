import { chmod, mkdir, rename, stat } from "node:fs/promises";

/**
 * Creates the folder that containers see. It is not the root of the file system, because databases
 * refuse its lost+found. It does not exist while the volume is not mounted. Any user of the
 * containers may write to it.
 */
export async function createDataFolder(dataPath: string): Promise<void> {
  if (await exists(dataPath)) return;
  const unfinished = `${dataPath}.new`;
  await mkdir(unfinished, { recursive: true });
  await chmod(unfinished, 0o1777);
  await rename(unfinished, dataPath);
}

/** True if the path exists and is accessible. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
