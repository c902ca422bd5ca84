import { spawn } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { StartProcess } from "../../cli/cli-context.ts";

const root = findRoot();

/**
 * Settings of the command line alone. Processes refuse unknown BERTH_* variables as likely typos,
 * so the command line does not pass these on. The agent needs the API's URL, too.
 */
const ownSettings = [
  "BERTH_TOKEN",
  "BERTH_TOKEN_FILE",
  "BERTH_TENANT",
  "BERTH_CONTEXT",
  "BERTH_CONFIG",
];

/**
 * Starts a process of Berth from the build, if it is as new as the sources. Otherwise tsx compiles
 * the sources at load.
 */
export const startProcess: StartProcess = (name, args, options) => {
  const script = isBuildCurrent()
    ? ["--enable-source-maps", path.join(root, "dist/main", `${name}.js`)]
    : ["--import", import.meta.resolve("tsx"), path.join(root, "src/main", `${name}.ts`)];
  const withheld = name === "all-in-one" ? [...ownSettings, "BERTH_API_URL"] : ownSettings;
  const inherited = Object.entries(process.env).filter(([key]) => !withheld.includes(key));
  const output = options.onLine ? "pipe" : "inherit";
  const child = spawn(process.execPath, [...script, ...args], {
    stdio: ["ignore", output, output],
    // A process group of its own: Ctrl-C reaches only the command line, which stops the child once.
    detached: true,
    env: { ...Object.fromEntries(inherited), ...options.env },
  });
  for (const stream of [child.stdout, child.stderr]) {
    if (stream && options.onLine)
      createInterface({ input: stream, crlfDelay: Infinity }).on("line", options.onLine);
  }
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? (signal === "SIGKILL" ? 137 : 143)));
  });
  return { ended, stop: () => void child.kill("SIGTERM") };
};

/** The folder of package.json: this file may be in src, in dist or in the bundle. */
function findRoot(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, "package.json"))) folder = path.dirname(folder);
  return folder;
}

/** An installation without sources has nothing to compare. */
function isBuildCurrent(): boolean {
  const built = path.join(root, "dist/main/api.js");
  const sources = path.join(root, "src");
  if (!existsSync(built)) return false;
  if (!existsSync(sources)) return true;
  const builtAtMs = statSync(built).mtimeMs;
  return readdirSync(sources, { recursive: true, encoding: "utf8" }).every(
    (file) => statSync(path.join(sources, file)).mtimeMs <= builtAtMs,
  );
}
