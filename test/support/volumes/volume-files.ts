import { createHash, randomBytes } from "node:crypto";
import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";

const MiB = 2 ** 20;

/** Writes random bytes and flushes them. The returned function reports whether they are intact. */
export async function checked(folder: string, bytes: number): Promise<() => Promise<boolean>> {
  const path = join(folder, "checked");
  const content = randomBytes(bytes);
  await writeFile(path, content, { flush: true });
  const hash = createHash("sha256").update(content).digest("hex");
  return async () =>
    createHash("sha256")
      .update(await readFile(path))
      .digest("hex") === hash;
}

/** Writes until the file system is full and returns the number of bytes. */
export async function fill(folder: string): Promise<number> {
  const file = await open(join(folder, "filler"), "w");
  const block = randomBytes(MiB);
  let written = 0;
  try {
    for (;;) {
      const { bytesWritten } = await file.write(block);
      written += bytesWritten;
      await file.datasync();
    }
  } catch (error) {
    expect(error).toMatchObject({ code: "ENOSPC" });
    return written;
  } finally {
    await file.close();
  }
}

/** Appends numbers, each flushed, until aborted, and returns their count. */
export async function appendUntil(path: string, signal: AbortSignal): Promise<number> {
  const file = await open(path, "a");
  let count = 0;
  while (!signal.aborted) {
    await file.write(`${count}\n`);
    await file.datasync();
    count++;
  }
  await file.close();
  return count;
}

export async function isSorted(path: string, count: number): Promise<boolean> {
  const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
  return lines.length === count && lines.every((line, position) => line === String(position));
}
