/** Ports of a host. Both ends belong to the range. */
export interface PortRange {
  first: number;
  last: number;
}

const PORT_MAX = 65_535;

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

/** Reads "80" or "8000-9999". Undefined for other texts. */
export function parsePortRange(text: string): PortRange | undefined {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text.trim());
  if (!match) return undefined;
  const first = Number(match[1]);
  const last = Number(match[2] ?? match[1]);
  return first >= 1 && first <= last && last <= PORT_MAX ? { first, last } : undefined;
}
