/** The ports from `first` to `last`, both included. */
export interface PortRange {
  first: number;
  last: number;
}

export const PORT_MAX = 65_535;

/**
 * The default range from which Berth chooses host ports. It lies below the ports that Linux gives
 * to outgoing connections.
 */
export const defaultHostPortRange: PortRange = { first: 20_000, last: 32_767 };

/**
 * The default of the host ports that templates may fix: those of web servers. Not 9100, where
 * exporters of metrics listen.
 */
export const defaultFixedHostPorts: readonly PortRange[] = [
  { first: 80, last: 80 },
  { first: 443, last: 443 },
  { first: 8_000, last: 8_999 },
];

/** Parses a port or a range such as 8000-8099. Returns undefined for other texts. */
export function parsePortRange(text: string): PortRange | undefined {
  const [, firstText, lastText = firstText] =
    /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(text) ?? [];
  const range = { first: Number(firstText), last: Number(lastText) };
  return range.first <= range.last && range.last <= PORT_MAX ? range : undefined;
}

/** Formats a range as `parsePortRange` reads it. */
export function formatPortRange({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

/** The same ports in ascending order, in as few ranges as possible. */
export function mergePortRanges(ranges: readonly PortRange[]): PortRange[] {
  const merged: PortRange[] = [];
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before && first <= before.last + 1) before.last = Math.max(before.last, last);
    else merged.push({ first, last });
  }
  return merged;
}
