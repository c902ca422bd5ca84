import { readFile } from "node:fs/promises";
import { LineCounter, parseAllDocuments, type Document } from "yaml";
import type { FieldError } from "../../contracts/common/app-error.ts";
import { type CreateService, createServiceBody } from "../../contracts/api/services.ts";
import { CliError, usageError } from "../cli-error.ts";
import { exitCodes } from "../exit-codes.ts";

const MANIFEST_BYTES_MAX = 8 * 2 ** 20;
const DOCUMENTS_MAX = 1_000;

/** A service as somebody wrote it, and what it means. */
export interface Manifest {
  /** As written: this is what is sent, so that the API says what it makes of it. */
  written: Record<string, unknown>;
  /** With units parsed and defaults filled in, to compare with what is. */
  meant: CreateService;
  /** Where it begins, for messages: menu.yaml:12. */
  at: string;
}

/** The services of all files, as readManifests gives them; none of them twice. */
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
 * The services of a file (or of standard input, for "-"): YAML or JSON, one or several documents, or a list of services.
 * Throws a usage error that names the line of everything that is wrong, before anything is sent.
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
    throw new CliError(`${name} does not describe services that Berth could run.`, {
      exitCode: exitCodes.usage,
      errors,
      hints: ["Nothing was changed. docs/cli.md shows a whole service."],
    });
  }
  if (manifests.length === 0) throw usageError(`${name} has no documents.`);
  assertNamedOnce(manifests);
  return manifests;
}

/** The one document of a file, whatever it describes. */
export async function readDocument(
  file: string,
  stdin: AsyncIterable<Uint8Array | string>,
): Promise<unknown> {
  const [document, ...others] = await readDocuments(file, stdin);
  if (!document || others.length > 0)
    throw usageError(
      `${file} is to have one document; it has ${others.length + (document ? 1 : 0)}.`,
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
    throw usageError(`${file} has more than ${DOCUMENTS_MAX} documents: apply it in parts.`);
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

/** Throws a usage error for what parses but has no value: aliases to nothing, or so many that they would explode. */
function valueOf(document: Document, file: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 }) as unknown;
  } catch (error) {
    throw usageError(
      `${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
    );
  }
}

/** The line of the node, or of the nearest thing around it: what is missing has no line of its own. */
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
      throw usageError(`The service ${meant.name} is described twice: at ${before} and at ${at}.`);
    seen.set(meant.name, at);
  }
}

async function readText(file: string, stdin: AsyncIterable<Uint8Array | string>): Promise<string> {
  if (file !== "-") {
    try {
      return await readFile(file, "utf8");
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const why = code === "ENOENT" ? "there is no such file" : (code ?? "it cannot be read");
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
      throw usageError(`Standard input is longer than ${MANIFEST_BYTES_MAX} bytes.`);
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}
