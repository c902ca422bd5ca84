import { fileURLToPath } from "node:url";
import { findLanguageViolations } from "../test/support/language/language-rules.ts";
import { readTextFiles } from "../test/support/language/text-files.ts";

/** Lists the violations of STYLE.md, Language, under the given paths. */
const root = fileURLToPath(new URL("..", import.meta.url));
const paths = process.argv.slice(2).map((path) => path.replace(/\/$/, ""));
const violations = readTextFiles(root)
  .filter(
    ({ path }) => paths.length === 0 || paths.some((under) => `${path}/`.startsWith(`${under}/`)),
  )
  .flatMap(findLanguageViolations);
for (const { path, rule, detail } of violations) console.log(`${path} ${rule}: ${detail}`);
console.log(`${violations.length} violations`);
process.exitCode = violations.length === 0 ? 0 : 1;
