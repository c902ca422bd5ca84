import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { bundleFolder, manifestFile, root, stampOf } from "./find-bundle.js";

/** A running command may still load a chunk of an older bundle, so these remain for a day. */
const OLD_CHUNK_AGE_MS = 24 * 3_600_000;

/**
 * Bundles the command line into dist/berth, and returns the URL of its entry point.
 *
 * One file per command loads faster than some 300 files of packages. Names contain a hash of the
 * content and the manifest is replaced last, so concurrent builds do not disturb each other.
 */
export async function bundleCli() {
  const { build } = await import("esbuild");
  const startedAtMs = Date.now();
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ["src/main/cli.ts"],
    outdir: bundleFolder,
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node20",
    metafile: true,
    logLevel: "silent",
    // Packages in CommonJS format load built-in modules with require.
    banner: {
      js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);',
    },
  });
  const outputs = Object.entries(metafile.outputs);
  const entry = outputs.find(([, output]) => output.entryPoint === "src/main/cli.ts")?.[0];
  if (entry === undefined) throw new Error("esbuild reports no entry point");
  const sources = Object.keys(metafile.inputs).filter((path) => path.startsWith("src/"));
  writeManifest({
    entry: basename(entry),
    inputs: [...sources, "bin/bundle-cli.js", "package-lock.json"].map((path) => {
      const stamp = stampOf(path);
      // esbuild may have read the file before this change: the next start builds again.
      return stamp[2] >= startedAtMs ? [path, -1, -1, ""] : stamp;
    }),
  });
  removeOldChunks(new Set(outputs.map(([path]) => basename(path))));
  return pathToFileURL(join(root, entry)).href;
}

function writeManifest(manifest) {
  mkdirSync(bundleFolder, { recursive: true });
  const file = `${manifestFile}.${process.pid}`;
  writeFileSync(file, JSON.stringify(manifest));
  renameSync(file, manifestFile);
}

function removeOldChunks(current) {
  for (const name of readdirSync(bundleFolder)) {
    if (current.has(name) || !name.endsWith(".js")) continue;
    const file = join(bundleFolder, name);
    const stats = statSync(file, { throwIfNoEntry: false });
    if (stats && Date.now() - stats.mtimeMs > OLD_CHUNK_AGE_MS) rmSync(file, { force: true });
  }
}

if (process.argv[1] === import.meta.filename) await bundleCli();
