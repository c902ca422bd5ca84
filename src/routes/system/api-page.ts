import type { ApiContext } from "../http/api-env.ts";

/** The files of the API page, such as `swagger-ui.css`. The process reads them from a package. */
export interface PageFiles {
  /** Returns undefined if the page has no such file. */
  read(name: string): Promise<PageFile | undefined>;
}

export interface PageFile {
  contentType: string;
  bytes: Uint8Array<ArrayBuffer>;
}

/**
 * The page loads its files and the OpenAPI document from this server, and nothing from other
 * servers. Swagger UI writes `style` attributes, so only inline styles are permitted, and no inline
 * scripts.
 */
const pagePolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Files do not change while a process runs; a new release may change them. */
const FILE_CACHE_SECONDS = 3_600;

const page = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Berth API</title>
    <link rel="stylesheet" href="/docs/swagger-ui.css">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <noscript>This page needs JavaScript. <a href="/openapi.json">openapi.json</a> has the same content.</noscript>
    <script src="/docs/swagger-ui-bundle.js"></script>
    <script src="/docs/start.js"></script>
  </body>
</html>
`;

/** Forgets entered tokens when the page closes. Sends the document to no external validator. */
const startScript = `SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "list",
  filter: true,
  persistAuthorization: false,
  displayRequestDuration: true,
  validatorUrl: null,
});
`;

/** Returns the API page: every operation, with its schemas, and a form that calls it. */
export function sendApiPage(c: ApiContext): Response {
  return c.newResponse(page, 200, {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": pagePolicy,
    "Referrer-Policy": "no-referrer",
  });
}

/** Returns a file of the API page, or undefined if the page has no such file. */
export async function sendPageFile(
  c: ApiContext,
  files: PageFiles,
  name: string,
): Promise<Response | undefined> {
  const headers = { "Cache-Control": `public, max-age=${FILE_CACHE_SECONDS}` };
  if (name === "start.js") {
    return c.newResponse(startScript, 200, {
      ...headers,
      "Content-Type": "text/javascript; charset=utf-8",
    });
  }
  const file = await files.read(name);
  if (!file) return undefined;
  return c.newResponse(file.bytes, 200, { ...headers, "Content-Type": file.contentType });
}
