/**
 * The first half of a character of two UTF-16 units, at the end of a text. No database stores it.
 */
const halfCharacter = /[\uD800-\uDBFF]$/;

/** Names an alert as users know it: `CpuHigh (9f2a61c7…)`, or by its key alone. */
export function nameAlert(alert: {
  key: string;
  labels: Readonly<Record<string, string>>;
}): string {
  const cut = (text: string, chars: number) => text.slice(0, chars).replace(halfCharacter, "");
  const key = alert.key.length > 12 ? `${cut(alert.key, 8)}…` : alert.key;
  const name = Object.hasOwn(alert.labels, "alertname") ? alert.labels["alertname"] : undefined;
  return name === undefined || name === "" ? key : `${cut(name, 80)} (${key})`;
}
