/** A lone high surrogate at the end of a text, which Postgres cannot store.
 */
const halfCharacter = /[\uD800-\uDBFF]$/;

/** Returns the name of an alert for users: `CpuHigh (9f2a61c7…)`, or only its key. */
export function nameAlert(alert: {
  key: string;
  labels: Readonly<Record<string, string>>;
}): string {
  const cut = (text: string, chars: number) => text.slice(0, chars).replace(halfCharacter, "");
  const key = alert.key.length > 12 ? `${cut(alert.key, 8)}…` : alert.key;
  const name = Object.hasOwn(alert.labels, "alertname") ? alert.labels["alertname"] : undefined;
  return name === undefined || name === "" ? key : `${cut(name, 80)} (${key})`;
}
