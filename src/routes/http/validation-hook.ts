import type { Hook } from "@hono/zod-openapi";
import type { z } from "zod";
import { AppError, type FieldError, notFound } from "../../contracts/common/app-error.ts";
import type { ApiEnv } from "./api-env.ts";
import { escapePointer } from "./read-body.ts";

type Issue = z.core.$ZodIssue;

/**
 * The resource that a path parameter names. An invalid parameter gets the response of a missing
 * resource.
 */
const resourceOfParameter: Record<string, string> = {
  name: "service",
  setId: "set",
  container: "container",
  hostId: "host",
  pool: "host pool",
  hookId: "hook",
  demandId: "demand",
  tokenId: "token",
  streamId: "stream",
};

/** The hook of all operations: it turns issues of a schema into invalid-request or not-found. */
export const validationHook: Hook<unknown, ApiEnv, string, undefined> = (result) => {
  if (result.success) return undefined;
  const { issues } = result.error;
  if (result.target === "param") {
    throw notFound(resourceOfParameter[String(issues[0]?.path[0])] ?? "resource");
  }
  const isBody = result.target === "json";
  const errors = issues.flatMap(unpackUnion).map((issue) => toFieldError(issue, isBody));
  const first = errors[0];
  const where = first === undefined || first.pointer === "" ? "" : ` at ${first.pointer}`;
  throw new AppError("invalid-request", {
    detail: `The request is invalid${where}: ${first?.detail ?? "see the schema"}.`,
    errors,
  });
};

/**
 * Replaces the issue of a union by the issues of the branch that the caller probably means: one
 * that matches the type of the value. Without such a branch, the issue lists the expected types.
 */
function unpackUnion(issue: Issue): Issue[] {
  if (issue.code !== "invalid_union") return [issue];
  const meant = issue.errors.find((branch) =>
    branch.some((inner) => inner.path.length > 0 || inner.code !== "invalid_type"),
  );
  if (!meant) return [{ ...issue, message: describeBranches(issue.errors) }];
  return meant.flatMap((inner) => unpackUnion({ ...inner, path: [...issue.path, ...inner.path] }));
}

function describeBranches(branches: readonly Issue[][]): string {
  const expected = branches.flatMap((branch) =>
    branch.flatMap((inner) => (inner.code === "invalid_type" ? [inner.expected] : [])),
  );
  return expected.length === 0
    ? "Invalid input"
    : `expected ${[...new Set(expected)].join(" or ")}`;
}

function toFieldError(issue: Issue, isBody: boolean): FieldError {
  const path = issue.path.map(String);
  const pointer = isBody ? path.map((key) => `/${escapePointer(key)}`).join("") : path.join(".");
  return { pointer, detail: issue.message.replace(/\.$/, "") };
}
