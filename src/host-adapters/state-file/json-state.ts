import { copyFile, open, rename } from "node:fs/promises";
import { z } from "zod";
import { coalesce } from "../../lib/async/coalesce.ts";
import type { LoadedState, StateStore } from "../../network-driver/ports/state-store.ts";
import { removeTemporaries, writeDurably } from "./write-durably.ts";

const fileBytesMax = 64 * 2 ** 20;

/**
 * A value in one JSON file that only its owner can read. An invalid file is renamed to
 * `<file>.invalid`, which replaces an earlier one. Until the first save, or until an operator
 * removes that file, later loads report it as well. Saves during a write share the next write.
 *
 * @param salvage returns the valid part of an invalid value, if it has one. The file then stays
 * until the next save, and `<file>.invalid` is a copy.
 */
export function openJsonState<S extends z.ZodType>(
  file: string,
  schema: S,
  salvage: (json: unknown) => z.output<S> | undefined = () => undefined,
): StateStore<z.output<S>> {
  let readValue: () => z.output<S> = () => {
    throw new Error("nothing was saved");
  };
  const write = coalesce(() => writeDurably(file, JSON.stringify(readValue())));
  return {
    async load(): Promise<LoadedState<z.output<S>>> {
      await removeTemporaries(file);
      const text = await readText(file);
      const movedTo = `${file}.invalid`;
      if (text === undefined) {
        if (!(await exists(movedTo))) return { kind: "missing" };
        return { kind: "invalid", reason: "an earlier start has set it aside", movedTo };
      }
      const json = readJson(text);
      if (typeof json === "string") {
        await rename(file, movedTo);
        return { kind: "invalid", reason: json, movedTo };
      }
      const { data, error } = schema.safeParse(json.value);
      if (!error) return { kind: "valid", value: data };
      const reason = z.prettifyError(error).slice(0, 1_000);
      const value = salvage(json.value);
      if (value !== undefined) {
        await copyFile(file, movedTo);
        return { kind: "partial", value, reason, copiedTo: movedTo };
      }
      await rename(file, movedTo);
      return { kind: "invalid", reason, movedTo };
    },
    async save(read) {
      readValue = read;
      await write();
    },
  };
}

/** Undefined if the file is missing. A file above the limit has an empty text, which is invalid. */
async function readText(file: string): Promise<string | undefined> {
  try {
    const handle = await open(file, "r");
    try {
      const { size } = await handle.stat();
      return size > fileBytesMax ? "" : await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

async function exists(file: string): Promise<boolean> {
  const handle = await open(file, "r").catch(() => undefined);
  await handle?.close();
  return handle !== undefined;
}

/** Returns the reason if the text is invalid. */
function readJson(text: string): { value: unknown } | string {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch {
    return text === "" ? "it is empty or too large" : "it is not complete JSON";
  }
}
