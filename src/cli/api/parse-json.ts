import { usageError } from "../cli-error.ts";

/** The JSON object or array in `text`. Throws a usage error that names `file`. */
export function parseJson(text: string, file: string): object {
  try {
    const document: unknown = JSON.parse(text);
    if (typeof document === "object" && document !== null) return document;
  } catch {
    // The error below also covers a text that is not JSON.
  }
  throw usageError(`${file} is not a JSON object.`);
}
