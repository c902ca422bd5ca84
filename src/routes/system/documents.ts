import { AppError, notFound } from "../../contracts/common/app-error.ts";
import type { ApiContext } from "../http/api-env.ts";
import { openApiDocument } from "../http/openapi-document.ts";
import type { Api } from "../http/operation.ts";
import { describeProblem, isProblemCode } from "../http/problem-docs.ts";
import { type PageFiles, sendApiPage, sendPageFile } from "./api-page.ts";

export interface DocumentOptions {
  /** The version of Berth. */
  version: string;
  /** Undefined if this server has no API page. */
  pageFiles?: PageFiles | undefined;
}

/** Serves the index, the OpenAPI document, the API page and the pages of problems. */
export function mountDocuments(api: Api, { version, pageFiles }: DocumentOptions): void {
  const { app } = api;
  let json: string | undefined;
  app.get("/", (c) => sendIndex(c, version, pageFiles ? "/docs" : "/openapi.json"));
  app.get("/openapi.json", (c) => {
    json ??= JSON.stringify(openApiDocument(app, version)); // takes some milliseconds
    return c.body(json, 200, { "Content-Type": "application/json" });
  });
  app.get("/problems/:code", (c) => {
    const code = c.req.param("code");
    if (!isProblemCode(code)) throw notFound("problem");
    return c.text(describeProblem(code));
  });
  if (!pageFiles) return;
  app.get("/docs", (c) => sendApiPage(c));
  app.get("/docs/:file", async (c) => {
    const response = await sendPageFile(c, pageFiles, c.req.param("file"));
    if (!response) throw notFound("file");
    return response;
  });
}

/** Redirects a browser to the documentation. Lists the pages of this server for other clients. */
function sendIndex(c: ApiContext, version: string, documentation: string): Response {
  c.header("Vary", "Accept");
  const accept = c.req.header("accept") ?? "";
  if (/\btext\/html\b/i.test(accept)) return c.redirect(documentation, 302);
  const pages = {
    documentation,
    openapi: "/openapi.json",
    problems: "/problems/{code}",
    services: "/v1/services",
    liveness: "/healthz",
    readiness: "/readyz",
  };
  return c.json({ name: "Berth", version, pages }, 200);
}

/** Returns 405 for a path that exists with other methods, else 404. */
export function mountFallback(api: Api): void {
  const known = api.mounted.map(({ method, path }) => ({
    method,
    pattern: new RegExp(`^${path.replace(/\{[^}]+\}/g, "[^/]+")}$`),
  }));
  for (const path of ["/", "/openapi.json", "/docs", "/docs/[^/]+", "/problems/[^/]+"]) {
    known.push({ method: "GET", pattern: new RegExp(`^${path}$`) });
  }
  api.app.notFound((c) => {
    const methods = known.filter(({ pattern }) => pattern.test(c.req.path)).map((it) => it.method);
    const supported = [...new Set(methods)].filter((method) => method !== c.req.method);
    if (supported.length === 0) throw notFound("path");
    c.header("Allow", supported.join(", "));
    throw new AppError("method-not-allowed", {
      detail: `This path supports ${supported.join(", ")}, not ${c.req.method}.`,
    });
  });
}
