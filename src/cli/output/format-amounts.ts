/** Formats bytes in binary units with at most one decimal: 8Gi, 1.5Gi, 512Mi. */
export function formatBytes(bytes: number): string {
  const units = ["", "Ki", "Mi", "Gi", "Ti"];
  let amount = bytes;
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit++;
  }
  return `${trimDecimal(amount)}${units[unit] ?? ""}`;
}

/** Formats cores with at most two decimals: 4, 0.5, 0.25. */
export function formatCores(cpuMillis: number): string {
  return String(Math.round(cpuMillis / 10) / 100);
}

/** Formats an age in the largest unit of which there are at least two: 90s, 12m, 5h, 3d. */
export function formatAge(at: string, nowMs: number): string {
  const seconds = Math.max(0, Math.round((nowMs - Date.parse(at)) / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Formats a duration: 850 ms, 3.2 s, 75 s. */
export function formatDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)} ms`;
  const seconds = durationMs / 1000;
  return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
}

/** Parses "30", "90s", "10m", "2h" or "30d" to seconds. Returns undefined for other texts. */
export function parseSeconds(text: string): number | undefined {
  const match = /^(\d{1,9})(s|m|h|d)?$/.exec(text);
  if (!match) return undefined;
  const unitSeconds = { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] ?? "s"] ?? 1;
  return Number(match[1]) * unitSeconds;
}

function trimDecimal(amount: number): string {
  return amount >= 100 ? String(Math.round(amount)) : String(Math.round(amount * 10) / 10);
}
