/**
 * Returns the lines for `ovs-ofctl bundle` that turn the flows `before` into `after`. A flow with
 * the same table, priority and match, but another cookie or other actions, is replaced in place. If
 * `after` has two flows of one match, the later one applies, as with replace-flows.
 */
export function diffFlows(before: readonly string[], after: readonly string[]): string[] {
  const present = byMatch(before);
  const wanted = byMatch(after);
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
  return new Map(
    lines.map((line) => [line.replace(/\bcookie=\w+,/, "").replace(/,?\bactions=.*$/, ""), line]),
  );
}
