/**
 * Returns the lines for `ovs-ofctl bundle` that turn the flows `before` into `after`. A flow with
 * the same table, priority and match, but another cookie or other actions, is replaced in place.
 * Each list has a match at most once.
 */
export function diffFlows(before: readonly string[], after: readonly string[]): string[] {
  // Most lines are equal, in the same order. To compare them is far cheaper than to map them.
  const shorter = Math.min(before.length, after.length);
  let first = 0;
  while (first < shorter && before[first] === after[first]) first += 1;
  let last = 0;
  while (last < shorter - first && before.at(-1 - last) === after.at(-1 - last)) last += 1;
  const present = byMatch(before.slice(first, before.length - last));
  const wanted = byMatch(after.slice(first, after.length - last));
  const deletions: string[] = [];
  for (const match of present.keys())
    if (!wanted.has(match)) deletions.push(`flow delete_strict ${match}`);
  const additions: string[] = [];
  for (const [match, line] of wanted)
    if (present.get(match) !== line) additions.push(`flow add ${line}`);
  return [...deletions, ...additions];
}

/** Maps each flow by its table, priority and match, which identify it in a bridge. */
function byMatch(lines: readonly string[]): Map<string, string> {
  const flows = new Map<string, string>();
  for (const line of lines) {
    // The driver writes the cookie first. Regular expressions take five times as long.
    const start = line.startsWith("cookie=") ? line.indexOf(",") + 1 : 0;
    const end = line.indexOf(",actions=");
    flows.set(line.slice(start, end === -1 ? undefined : end), line);
  }
  return flows;
}
