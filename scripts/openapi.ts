import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describeApi } from "../src/routes/http/describe-api.ts";
import { problemsMarkdown } from "../src/routes/http/problem-docs.ts";

/**
 * Writes the files that are generated from the routes: openapi.json and docs/problems.md. With
 * --check it writes nothing, and fails if a file differs.
 */
async function main(): Promise<void> {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const manifest = JSON.parse(await readFile(`${root}package.json`, "utf8")) as { version: string };
  const files = {
    "openapi.json": `${JSON.stringify(describeApi(manifest.version), null, 2)}\n`,
    "docs/problems.md": problemsMarkdown(),
  };
  const isCheck = process.argv.includes("--check");
  for (const [path, wanted] of Object.entries(files)) {
    const present = await readFile(`${root}${path}`, "utf8").catch(() => undefined);
    if (present === wanted) continue;
    if (isCheck) {
      process.exitCode = 1;
      console.error(`${path} differs from the routes. Run npm run openapi.`);
    } else {
      await writeFile(`${root}${path}`, wanted);
      console.log(`wrote ${path}`);
    }
  }
}

await main();
