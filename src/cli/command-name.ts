import path from "node:path";

/**
 * Returns the command that starts `berth` again from `directory`. It is the name if the shell finds
 * it in `searchPath`, and otherwise the path of the script that the user started.
 */
export function findCommandName(
  script: string | undefined,
  { directory, searchPath }: { directory: string; searchPath: string },
): string {
  if (script === undefined || path.basename(script) !== "berth") return "berth";
  const folder = path.dirname(script);
  if (searchPath.split(path.delimiter).includes(folder)) return "berth";
  const relative = path.relative(directory, script);
  if (relative.startsWith("..")) return script;
  return relative.includes(path.sep) ? relative : `./${relative}`;
}
