import { z } from "@hono/zod-openapi";
import { HTTPException } from "hono/http-exception";
import { AppError, type FieldError } from "../../contracts/common/app-error.ts";
import { problemCatalog, type ProblemCode } from "../../contracts/common/problems.ts";
import type { ApiContext } from "./api-env.ts";

const DETAIL_CHARS_MAX = 1_000;
const FIELD_ERRORS_MAX = 50;
export const PROBLEM_TYPE = "application/problem+json";

export const problemSchema = z
  .strictObject({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    instance: z.string(),
    code: z.string(),
    requestId: z.string(),
    errors: z.array(z.strictObject({ pointer: z.string(), detail: z.string() })).optional(),
    retryAfterMs: z.number().int().optional(),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof problemSchema>;

/**
 * Converts an error to problem+json (RFC 9457). Only this function reads the statuses of codes. An
 * error that is not an AppError is a fault of Berth: the log has its message, and the caller gets a
 * constant sentence.
 */
export function toProblemResponse(c: ApiContext, thrown: unknown): Response {
  const error = toAppError(thrown);
  const entry = problemCatalog[error.code];
  c.set("problemCode", error.code);
  if (entry.status >= 500) c.set("fault", thrown);
  const problem: Problem = {
    type: `/problems/${error.code}`,
    title: entry.title,
    status: entry.status,
    detail: clip(error.code === "internal" ? internalDetail : error.publicDetail),
    instance: c.req.path,
    code: error.code,
    requestId: c.get("requestId"),
    ...(error.errors.length > 0
      ? { errors: error.errors.slice(0, FIELD_ERRORS_MAX).map(clipField) }
      : {}),
    ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
  };
  const headers: Record<string, string> = { "Content-Type": PROBLEM_TYPE };
  if (entry.status === 401) headers["WWW-Authenticate"] = 'Bearer realm="berth"';
  if (entry.status === 503 || entry.status === 429 || error.retryAfterMs !== undefined) {
    headers["Retry-After"] = String(Math.ceil((error.retryAfterMs ?? 1_000) / 1_000));
  }
  return c.newResponse(JSON.stringify(problem), entry.status, headers);
}

const internalDetail = "Berth has an internal error. Send the request id to its operator.";

/** The codes of the statuses that Hono's validators throw. */
const codeOfStatus: Record<number, ProblemCode> = {
  400: "malformed-request",
  413: "body-too-large",
  415: "unsupported-media-type",
};

function toAppError(thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  if (thrown instanceof HTTPException) {
    const code = codeOfStatus[thrown.status];
    if (code !== undefined) return new AppError(code, { detail: problemCatalog[code].title });
  }
  return new AppError("internal", { detail: internalDetail, cause: thrown });
}

function clip(text: string): string {
  return text.length <= DETAIL_CHARS_MAX ? text : `${text.slice(0, DETAIL_CHARS_MAX)}…`;
}

function clipField(field: FieldError): FieldError {
  return { pointer: clip(field.pointer), detail: clip(field.detail) };
}

type StatusOf<C extends ProblemCode> = (typeof problemCatalog)[C]["status"];
interface ProblemResponse {
  description: string;
  content: { [PROBLEM_TYPE]: { schema: typeof problemSchema } };
}

/** The error responses of an operation in the OpenAPI document, by status, with their codes. */
export function problems<C extends ProblemCode>(
  ...codes: readonly C[]
): { [S in StatusOf<C>]: ProblemResponse } {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of codes) {
    const { status } = problemCatalog[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const responses = [...byStatus].map(([status, group]) => [
    status,
    {
      description: group.map((code) => `\`${code}\`: ${problemCatalog[code].title}.`).join(" "),
      content: { [PROBLEM_TYPE]: { schema: problemSchema } },
    },
  ]);
  return Object.fromEntries(responses) as { [S in StatusOf<C>]: ProblemResponse };
}
