import { expect, it } from "vitest";
import type { ControlContext } from "../../control/runtime/context.ts";
import { silentLog } from "../../lib/log.ts";
import { createPageFiles } from "./page-files.ts";
import { createApp } from "../../routes/app.ts";

const context = { log: silentLog } as ControlContext; // no request below reads the database
const app = createApp(context, { version: "1.2.3", pageFiles: createPageFiles() });
const appWithoutPage = createApp(context, { version: "1.2.3" });
const browser = { accept: "text/html,application/xhtml+xml,*/*;q=0.8" };

it("leads a browser from the root to the documentation", async () => {
  const response = await app.request("/", { headers: browser });
  expect(response.status).toBe(302);
  expect(response.headers.get("location")).toBe("/docs");
  expect((await appWithoutPage.request("/", { headers: browser })).headers.get("location")).toBe(
    "/openapi.json",
  );
});

it.each([undefined, "application/json", "*/*"])(
  "lists existing pages at the root for a client that accepts %s",
  async (accept) => {
    const response = await app.request("/", accept === undefined ? {} : { headers: { accept } });
    const index = (await response.json()) as { version: string; pages: Record<string, string> };
    expect(response.status).toBe(200);
    expect(index.version).toBe("1.2.3");
    for (const name of ["documentation", "openapi"]) {
      expect((await app.request(index.pages[name] ?? "")).status).toBe(200);
    }
  },
);

it("serves each file that the page names, and the page names no other server", async () => {
  const response = await app.request("/docs");
  const page = await response.text();
  const files = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1] ?? "");
  expect(files).toContain("/docs/swagger-ui-bundle.js");
  for (const file of files) expect((await app.request(file)).status, file).toBe(200);
  expect(page).not.toMatch(/https?:|<script>|<style|\son\w+=/);
  const policy = response.headers.get("content-security-policy") ?? "";
  expect(policy).toContain("default-src 'none'");
  expect(policy).toContain("script-src 'self';");
  expect(policy).not.toContain("http");
});

it("serves no other file of the package, and no page without files", async () => {
  for (const file of ["package.json", "..%2fpackage.json", "index.html", "swagger-ui.css.map"]) {
    expect((await app.request(`/docs/${file}`)).status, file).toBe(404);
  }
  expect((await appWithoutPage.request("/docs")).status).toBe(404);
});

it("answers 405 with the supported methods for another method", async () => {
  const response = await app.request("/docs", { method: "POST" });
  expect(response.status).toBe(405);
  expect(response.headers.get("allow")).toBe("GET");
});
