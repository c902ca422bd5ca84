import type { OpenApiDocument } from "../http/openapi-document.ts";

type Json = Record<string, unknown>;

const style = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
h2{margin-top:3rem;border-bottom:1px solid #ccc}h3{margin:2rem 0 .25rem}code,pre{font-family:ui-monospace,monospace;font-size:13px}
pre{background:#f5f5f5;padding:.75rem;overflow:auto}.method{display:inline-block;min-width:4.5rem;font-weight:700}
table{border-collapse:collapse}td,th{text-align:left;vertical-align:top;padding:.15rem .75rem .15rem 0}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{color:#e4e4e4;background:#161616}pre{background:#222}a{color:#8ab4f8}}`;

/**
 * The description as one plain page: operations by tag, then every schema. Works without scripts or
 * downloads.
 */
export function renderDocs(document: OpenApiDocument): string {
  const operations = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    Object.entries(item as Json).map(([method, operation]) => ({
      path,
      method,
      operation: operation as Json,
    })),
  );
  const sections = (document.tags ?? []).map((tag) => {
    const own = operations.filter(({ operation }) => asList(operation["tags"]).includes(tag.name));
    const body = own.map(renderOperation).join("");
    return `<h2 id="${escape(tag.name)}">${escape(tag.name)}</h2><p>${prose(tag.description)}</p>${body}`;
  });
  const schemas = Object.entries(document.components?.schemas ?? {}).map(
    ([name, schema]) =>
      `<details id="schema-${escape(name)}"><summary><code>${escape(name)}</code></summary><pre>${renderJson(schema)}</pre></details>`,
  );
  const links = (document.tags ?? []).map(
    (tag) => `<a href="#${escape(tag.name)}">${escape(tag.name)}</a>`,
  );
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Berth API</title><style>${style}</style></head><body>
<h1>Berth API</h1><p>${prose(document.info.description)}</p>
<p>For programs: <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1). ${links.join(" · ")} · <a href="#schemas">schemas</a></p>
${sections.join("\n")}<h2 id="schemas">schemas</h2>${schemas.join("\n")}</body></html>`;
}

function renderOperation({
  path,
  method,
  operation,
}: {
  path: string;
  method: string;
  operation: Json;
}): string {
  const parts = [
    `<h3 id="${escape(operation["operationId"])}"><span class="method">${escape(method.toUpperCase())}</span> <code>${escape(path)}</code></h3>`,
    `<p>${escape(operation["summary"])}. ${prose(operation["description"])}</p>`,
    `<p>Who: ${escape(callersOf(operation))}</p>`,
  ];
  const parameters = asList(operation["parameters"]) as Json[];
  if (parameters.length > 0) {
    const rows = parameters.map(
      (it) =>
        `<tr><td><code>${escape(it["name"])}</code></td><td>${escape(it["in"])}${it["required"] === true ? ", required" : ""}</td><td><code>${renderJson(it["schema"], 0)}</code></td></tr>`,
    );
    parts.push(`<table>${rows.join("")}</table>`);
  }
  const body = schemaOf(operation["requestBody"]);
  if (body !== undefined) parts.push(`<p>Body: ${renderSchema(body)}</p>`);
  const responses = Object.entries((operation["responses"] ?? {}) as Json).map(
    ([status, response]) =>
      `<tr><td><code>${escape(status)}</code></td><td>${prose((response as Json)["description"])}</td><td>${status < "400" ? renderSchema(schemaOf(response)) : ""}</td></tr>`,
  );
  parts.push(`<table>${responses.join("")}</table>`);
  return parts.join("\n");
}

function callersOf(operation: Json): string {
  const security = asList(operation["security"]) as Record<string, string[]>[];
  if (security.length === 0) return "anybody";
  return security
    .flatMap((entry) => Object.entries(entry))
    .map(([scheme, roles]) => (roles.length > 0 ? `${scheme} of ${roles.join(", ")}` : scheme))
    .join(" or ");
}

function schemaOf(holder: unknown): unknown {
  const content = (holder as Json | undefined)?.["content"] as Json | undefined;
  const media = Object.values(content ?? {})[0] as Json | undefined;
  return media?.["schema"];
}

function renderSchema(schema: unknown): string {
  if (schema === undefined) return "";
  const reference = (schema as Json)["$ref"];
  if (typeof reference === "string") return linkTo(reference);
  return `<code>${renderJson(schema, 0)}</code>`;
}

function linkTo(reference: string): string {
  const name = escape(reference.split("/").at(-1));
  return `<a href="#schema-${name}"><code>${name}</code></a>`;
}

/** JSON with its references as links. */
function renderJson(value: unknown, indent = 1): string {
  return escape(JSON.stringify(value, null, indent)).replaceAll(
    /&quot;#\/components\/schemas\/([A-Za-z]+)&quot;/g,
    '<a href="#schema-$1">$1</a>',
  );
}

function asList(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Escaped text in which backquotes mark code. */
function prose(text: unknown): string {
  return escape(text).replaceAll(/`([^`]+)`/g, "<code>$1</code>");
}

function escape(text: unknown): string {
  const plain = typeof text === "string" ? text : "";
  return plain
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
