import type { Hook } from "@hono/zod-openapi";
import type { z } from "zod";
import { AppError, type FieldError, notFound } from "../../contracts/common/app-error.ts";
import type { ApiEnv } from "./api-env.ts";
import { escapePointer } from "./read-body.ts";

type Issue = z.core.$ZodIssue;

/** What a path parameter names: for a path that cannot name anything the answer is that of one that names nothing. */
const thingOfParameter: Record<string, string> = {
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

/** The default hook of all operations: turns what a schema found wrong into invalid-request, or not-found for paths. */
export const validationHook: Hook<unknown, ApiEnv, string, undefined> = (result) => {
  if (result.success) return undefined;
  const { issues } = result.error;
  if (result.target === "param") {
    throw notFound(thingOfParameter[String(issues[0]?.path[0])] ?? "thing");
  }
  const isBody = result.target === "json";
  const errors = issues.flatMap(unpackUnion).map((issue) => toFieldError(issue, isBody));
  const first = errors[0];
  const where = first === undefined || first.pointer === "" ? "" : ` at ${first.pointer}`;
  throw new AppError("invalid-request", {
    detail: `The request is not valid${where}: ${first?.detail ?? "see the schema"}.`,
    errors,
  });
};

/**
 * Of a union that no branch of fits: what is wrong inside of the branch that was probably meant, which is one that got
 * further than the outside. Where none did, the union's own issue says it.
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
