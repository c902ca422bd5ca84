import type { HookRule } from "../../contracts/api/autoscaling.ts";

type Labels = Readonly<Record<string, string>>;

/** Returns the first rule that matches: the alert has all its labels. */
export function findRule(rules: readonly HookRule[], labels: Labels): HookRule | undefined {
  return rules.find((rule) =>
    Object.entries(rule.match).every(
      ([name, value]) => Object.hasOwn(labels, name) && labels[name] === value,
    ),
  );
}

/**
 * Names a rule within its hook by the labels that it matches. A changed request does not change the
 * name.
 */
export function ruleKey(rule: Pick<HookRule, "match">): string {
  return canonical(rule.match, Object.keys(rule.match));
}

/**
 * Names an alert within its rule. Two alerts with one identity are one alert with changed labels.
 * The rule chooses the labels of the identity. By default, the identity is the sender's own name of
 * the alert, or else all labels without measured values.
 */
export function alertIdentity(
  rule: Pick<HookRule, "identity">,
  alert: { labels: Labels; name?: string | undefined },
): string {
  const { labels, name } = alert;
  if (rule.identity) return canonical(labels, rule.identity);
  if (name !== undefined) return JSON.stringify(name);
  const chosen = Object.keys(labels).filter((label) => !carriesValue(label, labels[label] ?? ""));
  return canonical(labels, chosen);
}

const namesOfValues: ReadonlySet<string> = new Set(["value", "current_value", "currentvalue"]);
/** Matches 97%, 0.93 and 1.5e3, but neither 8080 nor 10.0.0.1: integers and addresses are names. */
const measuredValue = /^[-+]?(?:\d+(?:\.\d+)?\s?%|\d*\.\d+(?:e[-+]?\d+)?)$/i;

function carriesValue(name: string, text: string): boolean {
  return namesOfValues.has(name.toLowerCase()) || measuredValue.test(text);
}

function canonical(labels: Labels, names: readonly string[]): string {
  const present = [...new Set(names)].filter((name) => Object.hasOwn(labels, name));
  return JSON.stringify(present.toSorted().map((name) => [name, labels[name]]));
}
