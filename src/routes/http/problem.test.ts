import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { expect, it } from "vitest";
import { AppError } from "../../contracts/common/app-error.ts";
import { problemCatalog, type ProblemCode } from "../../contracts/common/problems.ts";
import type { ApiEnv } from "./api-env.ts";
import { problemSchema, toProblemResponse } from "./problem.ts";
import { describeProblem, isProblemCode, problemDocs } from "./problem-docs.ts";

const codes = Object.keys(problemCatalog).filter(isProblemCode);

async function answer(thrown: unknown): Promise<Response> {
  const app = new Hono<ApiEnv>();
  app.use("*", (c, next) => {
    c.set("requestId", "req_1");
    return next();
  });
  app.onError((error, c) => toProblemResponse(c, error));
  app.get("/thing", () => {
    throw thrown;
  });
  return app.request("/thing");
}

it.each(codes)("answers %s with its status, its page and the declared schema", async (code) => {
  const response = await answer(new AppError(code, { detail: "What to do." }));
  expect(response.status).toBe(problemCatalog[code].status);
  expect(response.headers.get("content-type")).toBe("application/problem+json");
  const problem = problemSchema.parse(await response.json());
  expect(problem).toMatchObject({
    type: `/problems/${code}`,
    code,
    instance: "/thing",
    requestId: "req_1",
  });
  expect(describeProblem(code)).toContain(problemDocs[code].user);
});

it.each<[string, unknown]>([
  ["an Error", new Error("password=hunter2")],
  ["an internal AppError", new AppError("internal", { detail: "password=hunter2" })],
  ["an exception of the framework", new HTTPException(418, { message: "password=hunter2" })],
])("answers %s with 500 and without its message", async (_name, thrown) => {
  const response = await answer(thrown);
  expect(response.status).toBe(500);
  expect(await response.text()).not.toContain("hunter2");
});

it.each<[number, ProblemCode]>([
  [400, "malformed-request"],
  [413, "body-too-large"],
  [415, "unsupported-media-type"],
])("answers the framework's status %s with the problem %s", async (status, code) => {
  const response = await answer(new HTTPException(status as 400, { message: "x" }));
  expect(await response.json()).toMatchObject({ status, code });
});

it("states the time before a retry in the header and in the body", async () => {
  const response = await answer(
    new AppError("dependency-unavailable", {
      detail: "Redis is unreachable.",
      retryAfterMs: 1_500,
    }),
  );
  expect(response.headers.get("retry-after")).toBe("2");
  expect(await response.json()).toMatchObject({ retryAfterMs: 1_500 });
});

it("truncates long details and long lists of errors", async () => {
  const errors = Array.from({ length: 200 }, () => ({
    pointer: "/x".repeat(2_000),
    detail: "y".repeat(5_000),
  }));
  const response = await answer(
    new AppError("invalid-request", { detail: "z".repeat(1e6), errors }),
  );
  const text = await response.text();
  expect(text.length).toBeLessThan(150_000);
});
