import type { MiddlewareHandler } from "hono";
import { AppError } from "../../contracts/common/app-error.ts";
import type { ApiEnv } from "./api-env.ts";

const utf8 = new TextDecoder("utf-8", { fatal: true });
const jsonType = /^application\/([a-z.-]+\+)?json(\s*;|$)/i;
/** The escape of a character that Postgres cannot store: NUL, or half a surrogate pair. */
const suspiciousEscape = /\\u(?:0000|[dD][89a-fA-F])/;
const unstorable = /\0|\p{Surrogate}/gu;

/**
 * Reads a JSON body of at most `bytesMax` bytes once, for validators and for the idempotency hash.
 * Rejects other content types (415), longer bodies (413), bodies that are not UTF-8 or not JSON
 * (400), and text that the database cannot store (422). With `acceptsAnyText` it replaces such text
 * instead, so that no text can block the reports of a machine.
 */
export function readJsonBody(limits: {
  bytesMax: number;
  acceptsAnyText: boolean;
  /** A request without a content type has no body. */
  isOptional: boolean;
  /** Creates the error for a longer body. */
  tooLarge?: ((bytesMax: number) => AppError) | undefined;
}): MiddlewareHandler<ApiEnv> {
  const tooLarge = limits.tooLarge ?? bodyTooLarge;
  return async (c, next) => {
    if (limits.isOptional && c.req.header("content-type") === undefined) return next();
    if (!jsonType.test(c.req.header("content-type") ?? "")) {
      throw new AppError("unsupported-media-type", {
        detail: "Send the body as JSON with `Content-Type: application/json`.",
      });
    }
    const bytes = await readBytes(c.req.raw, limits.bytesMax, () => tooLarge(limits.bytesMax));
    const text = decode(bytes);
    const isSuspicious = suspiciousEscape.test(text);
    const parsed = parseJson(text, isSuspicious && limits.acceptsAnyText ? toStorable : undefined);
    if (isSuspicious) assertStorable(parsed);
    c.set("bodyText", text);
    // Hono caches parsed bodies here, and its validators read this cache.
    c.req.bodyCache.json = Promise.resolve(parsed);
    await next();
  };
}

/** Reads at most `bytesMax` bytes, and stops at a longer body. Throws the error of `tooLarge`. */
async function readBytes(
  request: Request,
  bytesMax: number,
  tooLarge: () => AppError,
): Promise<Uint8Array> {
  const declared = request.headers.get("content-length");
  if (declared !== null && /^\d{1,15}$/.test(declared)) {
    if (Number(declared) > bytesMax) throw tooLarge();
    const bytes = new Uint8Array(await readAll(request));
    if (bytes.length > bytesMax) throw tooLarge();
    return bytes;
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of request.body ?? []) {
      length += chunk.length;
      if (length > bytesMax) throw tooLarge();
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof AppError ? error : incompleteBody(error);
  }
  return Buffer.concat(chunks);
}

async function readAll(request: Request): Promise<ArrayBuffer> {
  try {
    return await request.arrayBuffer();
  } catch (error) {
    throw incompleteBody(error);
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch (error) {
    throw new AppError("malformed-request", { detail: "The body is not UTF-8.", cause: error });
  }
}

function parseJson(text: string, revive?: (key: string, value: unknown) => unknown): unknown {
  try {
    return JSON.parse(text, revive);
  } catch (error) {
    // The parser throws a RangeError for JSON that is nested too deeply.
    const detail = error instanceof RangeError ? "is nested too deeply" : "is not JSON";
    throw new AppError("malformed-request", { detail: `The body ${detail}.`, cause: error });
  }
}

/**
 * A JSON reviver. It replaces characters that the database cannot store by U+FFFD, including in
 * keys.
 */
function toStorable(_key: string, value: unknown): unknown {
  if (typeof value === "string") return value.replaceAll(unstorable, "\u{FFFD}");
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value);
  if (!entries.some(([key]) => isUnstorable(key))) return value;
  return Object.fromEntries(
    entries.map(([key, member]) => [key.replaceAll(unstorable, "\u{FFFD}"), member]),
  );
}

function isUnstorable(text: string): boolean {
  return text.search(unstorable) !== -1;
}

/**
 * Visits all texts without recursion, because the sender chooses the depth. Throws invalid-request.
 */
function assertStorable(root: unknown): void {
  const pending: { value: unknown; pointer: string }[] = [{ value: root, pointer: "" }];
  for (let next = pending.pop(); next; next = pending.pop()) {
    const { value, pointer } = next;
    if (typeof value === "string") assertStorableText(value, pointer);
    if (typeof value !== "object" || value === null) continue;
    for (const [key, member] of Object.entries(value)) {
      assertStorableText(key, pointer);
      // Pointers grow with the depth, so without a limit their total length would be quadratic in
      // the depth.
      const child = pointer.length > 200 ? pointer : `${pointer}/${escapePointer(key)}`;
      pending.push({ value: member, pointer: child });
    }
  }
}

function assertStorableText(text: string, pointer: string): void {
  if (!isUnstorable(text)) return;
  const detail = "text must not contain NUL or half a surrogate pair";
  throw new AppError("invalid-request", { detail, errors: [{ pointer, detail }] });
}

export function escapePointer(key: string): string {
  return key.replaceAll("~", "~0").replaceAll("/", "~1");
}

function bodyTooLarge(bytesMax: number): AppError {
  return new AppError("body-too-large", {
    detail: `The body has more than ${bytesMax} bytes, the limit of this operation.`,
  });
}

function incompleteBody(cause: unknown): AppError {
  return new AppError("malformed-request", { detail: "The body is incomplete.", cause });
}
