import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
export const bundleFolder = join(root, "dist/berth");
/** The name of the entry point, and the identity of each source of the bundle. */
export const manifestFile = join(bundleFolder, "manifest.json");

/**
 * The URL of the bundle, or undefined if it is missing or older than a source. It compares only
 * the files that the bundle contains: a new file becomes part of it by a change of one of these.
 * An installation without sources has nothing to compare.
 */
export function findCurrentBundle() {
  const manifest = readManifest();
  if (!manifest) return undefined;
  const entry = join(bundleFolder, manifest.entry);
  if (!existsSync(entry)) return undefined;
  if (existsSync(join(root, "src")) && !manifest.inputs.every(isUnchanged)) return undefined;
  return pathToFileURL(entry).href;
}

/** The identity of a source: its path under the root, its size, modification time and hash. */
export function stampOf(path) {
  const { size, mtimeMs } = statSync(join(root, path));
  return [path, size, mtimeMs, hashOf(path)];
}

/** A copy or a checkout changes the times of files, so the content decides then. */
function isUnchanged([path, size, mtimeMs, hash]) {
  const stats = statSync(join(root, path), { throwIfNoEntry: false });
  if (stats?.size !== size) return false;
  return stats.mtimeMs === mtimeMs || hashOf(path) === hash;
}

/** Loading node:crypto takes 10 ms, so only a changed time does. */
function hashOf(path) {
  const { createHash } = process.getBuiltinModule("node:crypto");
  return createHash("sha256")
    .update(readFileSync(join(root, path)))
    .digest("hex");
}

function readManifest() {
  try {
    return JSON.parse(readFileSync(manifestFile, "utf8"));
  } catch {
    return undefined; // missing or damaged: the caller builds a new bundle
  }
}
