import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { Api } from "../http/operation.ts";
import { describeProblem, isProblemCode } from "../http/problem-docs.ts";
import { openApiDocument } from "../http/openapi-document.ts";
import { renderDocs } from "./render-docs.ts";

/** The page loads nothing and runs no script. */
const pagePolicy =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/**
 * Serves the OpenAPI document, its page and the problem pages. Renders each at its first request.
 */
export function mountDocuments(api: Api, version: string): void {
  let json: string | undefined;
  let html: string | undefined;
  api.app.get("/openapi.json", (c) => {
    json ??= JSON.stringify(openApiDocument(api.app, version));
    return c.body(json, 200, { "Content-Type": "application/json" });
  });
  api.app.get("/docs", (c) => {
    html ??= renderDocs(openApiDocument(api.app, version));
    return c.html(html, 200, { "Content-Security-Policy": pagePolicy });
  });
  api.app.get("/problems/:code", (c) => {
    const code = c.req.param("code");
    if (!isProblemCode(code)) throw notFound("problem");
    return c.text(describeProblem(code));
  });
}

/** Answers 405 for a path that exists with other methods, else 404. */
export function mountFallback(api: Api): void {
  const known = api.mounted.map(({ method, path }) => ({
    method,
    pattern: new RegExp(`^${path.replace(/\{[^}]+\}/g, "[^/]+")}$`),
  }));
  for (const path of ["/openapi.json", "/docs", "/problems/[^/]+"]) {
    known.push({ method: "GET", pattern: new RegExp(`^${path}$`) });
  }
  api.app.notFound((c) => {
    const methods = known.filter(({ pattern }) => pattern.test(c.req.path)).map((it) => it.method);
    if (methods.length === 0) throw notFound("path");
    c.header("Allow", [...new Set(methods)].join(", "));
    throw new AppError("method-not-allowed", {
      detail: `This path supports ${[...new Set(methods)].join(", ")}, not ${c.req.method}.`,
    });
  });
}
