import { readFile } from "node:fs/promises";
import { LineCounter, parseAllDocuments, type Document } from "yaml";
import type { FieldError } from "../../contracts/common/app-error.ts";
import { type CreateService, createServiceBody } from "../../contracts/api/services.ts";
import { formatBytes } from "../output/format-amounts.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";

const MANIFEST_BYTES_MAX = 8 * 2 ** 20;
const DOCUMENTS_MAX = 1_000;

/** A service as the author wrote it, and its parsed form. */
export interface Manifest {
  /** The body of the request, as written, so that the API validates the original. */
  written: Record<string, unknown>;
  /** The parsed form with defaults, for the comparison with the existing service. */
  meant: CreateService;
  /** The file and the first line, for messages: menu.yaml:12. */
  at: string;
}

/** Reads the services of all files. Throws a usage error if two have one name. */
export async function readAllManifests(
  files: readonly string[],
  stdin: AsyncIterable<Uint8Array | string>,
): Promise<Manifest[]> {
  const manifests: Manifest[] = [];
  for (const file of files) manifests.push(...(await readManifests(file, stdin)));
  assertNamedOnce(manifests);
  return manifests;
}

/**
 * Reads the services of a file, or of standard input for "-". The file has YAML or JSON documents;
 * each is a service or a list of services. Throws a usage error that names each invalid line.
 */
export async function readManifests(
  file: string,
  stdin: AsyncIterable<Uint8Array | string>,
): Promise<Manifest[]> {
  const name = file === "-" ? "standard input" : file;
  const documents = await readDocuments(file, stdin);
  const errors: FieldError[] = [];
  const manifests: Manifest[] = [];
  for (const document of documents) {
    for (const item of document.items) {
      const at = `${name}:${document.lineOf(item.path)}`;
      const parsed = createServiceBody.safeParse(item.value);
      if (parsed.success) {
        manifests.push({ written: item.value as Record<string, unknown>, meant: parsed.data, at });
        continue;
      }
      for (const issue of parsed.error.issues) {
        const path = [...item.path, ...issue.path.map(pathPart)];
        const pointer = issue.path.map((part) => `/${String(part)}`).join("");
        errors.push({
          pointer: `${name}:${document.lineOf(path)} ${pointer === "" ? "/" : pointer}`,
          detail: issue.message,
        });
      }
    }
  }
  if (errors.length > 0) {
    throw new CliError(`${name} is invalid.`, {
      exitCode: exitCodes.usage,
      errors,
      hints: ["Berth changed nothing. docs/cli.md shows a valid service."],
    });
  }
  if (manifests.length === 0) throw usageError(`${name} has no documents.`);
  assertNamedOnce(manifests);
  return manifests;
}

/** Reads the only document of a file. Throws a usage error for none or several. */
export async function readDocument(
  file: string,
  stdin: AsyncIterable<Uint8Array | string>,
): Promise<unknown> {
  const [document, ...others] = await readDocuments(file, stdin);
  if (!document || others.length > 0)
    throw usageError(
      `${file} has ${others.length + (document ? 1 : 0)} documents, but the command takes one.`,
    );
  return document.value;
}

interface ReadDocument {
  value: unknown;
  items: { value: unknown; path: (string | number)[] }[];
  lineOf: (path: readonly (string | number)[]) => number;
}

async function readDocuments(
  file: string,
  stdin: AsyncIterable<Uint8Array | string>,
): Promise<ReadDocument[]> {
  const text = await readText(file, stdin);
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: true });
  if (!Array.isArray(documents)) return [];
  if (documents.length > DOCUMENTS_MAX)
    throw usageError(`${file} has more than ${DOCUMENTS_MAX} documents. Split the file.`);
  return documents.flatMap((document) => {
    const [error] = document.errors;
    if (error) throw usageError(`${file} is neither YAML nor JSON: ${error.message}`);
    const value = valueOf(document, file);
    if (value === null || value === undefined) return [];
    const items = Array.isArray(value)
      ? value.map((item: unknown, position) => ({ value: item, path: [position] }))
      : [{ value, path: [] }];
    return [{ value, items, lineOf: (path) => lineOf(document, lines, path) }];
  });
}

/** Resolves the aliases of a document. Throws a usage error for unknown or too many aliases. */
function valueOf(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw usageError(
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
    );
  }
}

/** The line of a node, or of the nearest node around a missing one. */
function lineOf(
  document: Document,
  lines: LineCounter,
  path: readonly (string | number)[],
): number {
  for (let depth = path.length; depth >= 0; depth--) {
    const node: unknown =
      depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    const range = (node as { range?: [number, number, number] } | null | undefined)?.range;
    if (range) return lines.linePos(range[0]).line;
  }
  return 1;
}

function pathPart(part: PropertyKey): string | number {
  return typeof part === "number" ? part : String(part);
}

function assertNamedOnce(manifests: readonly Manifest[]): void {
  const seen = new Map<string, string>();
  for (const { meant, at } of manifests) {
    const before = seen.get(meant.name);
    if (before !== undefined)
      throw usageError(
        `Service ${meant.name} occurs twice: at ${before} and at ${at}. Remove one.`,
      );
    seen.set(meant.name, at);
  }
}

async function readText(file: string, stdin: AsyncIterable<Uint8Array | string>): Promise<string> {
  if (file !== "-") {
    try {
      return await readFile(file, "utf8");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const why = code === "ENOENT" ? "the file does not exist" : (code ?? "it cannot be read");
      throw new CliError(`Cannot read ${file}: ${why}.`, {
        exitCode: exitCodes.usage,
        cause: error,
      });
    }
  }
  const chunks: Buffer[] = [];
  let totalBytes = 0;
  for await (const chunk of stdin) {
    const bytes = Buffer.from(chunk);
    totalBytes += bytes.length;
    if (totalBytes > MANIFEST_BYTES_MAX)
      throw usageError(
        `Standard input is longer than ${formatBytes(MANIFEST_BYTES_MAX)}B. Split the documents.`,
      );
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
