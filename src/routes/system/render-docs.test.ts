import { expect, it } from "vitest";
import { describeApi } from "../http/describe-api.ts";
import { renderDocs } from "./render-docs.ts";

const document = describeApi("0");
const html = renderDocs(document);

it("shows every operation and every schema, and every link leads somewhere on the page", () => {
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    expect(html).toContain(`<code>${path}</code>`);
    for (const operation of Object.values(item as Record<string, { operationId: string }>)) {
      expect(html).toContain(`id="${operation.operationId}"`);
    }
  }
  const anchors = new Set([...html.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]));
  for (const [, target] of html.matchAll(/href="#([^"]+)"/g)) expect(anchors).toContain(target);
});

it("loads nothing and runs nothing", () => {
  expect(html).not.toMatch(/<script|<link|<img|src=|https?:\/\//);
});

it("escapes what it is given", () => {
  const info = { ...document.info, description: "<b>&\"'" };
  expect(renderDocs({ ...document, info })).toContain("&lt;b&gt;&amp;&quot;'");
});
