import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { PageFile, PageFiles } from "../../routes/system/api-page.ts";

const require = createRequire(import.meta.url);

interface SourceFile {
  contentType: string;
  path: string;
}

/** The files of the package swagger-ui-dist that the API page loads. */
const sourceFiles: ReadonlyMap<string, SourceFile> = new Map([
  [
    "swagger-ui-bundle.js",
    {
      contentType: "text/javascript; charset=utf-8",
      path: require.resolve("swagger-ui-dist/swagger-ui-bundle.js"),
    },
  ],
  [
    "swagger-ui.css",
    {
      contentType: "text/css; charset=utf-8",
      path: require.resolve("swagger-ui-dist/swagger-ui.css"),
    },
  ],
]);

/** Reads each file of the API page at its first request, and caches it. */
export function createPageFiles(): PageFiles {
  const cache = new Map<string, PageFile>();
  return {
    async read(name) {
      const source = sourceFiles.get(name);
      if (!source) return undefined;
      const cached = cache.get(name);
      if (cached) return cached;
      const bytes = new Uint8Array(await readFile(source.path));
      const file = { contentType: source.contentType, bytes };
      cache.set(name, file);
      return file;
    },
  };
}
