/** Binary and decimal size suffixes, as in Kubernetes quantities. */
const unitBytes: Record<string, number> = {
  "": 1,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
};

/** The largest amount that Berth accepts. Sums over a fleet stay below 2^53. */
export const BYTES_MAX = 2 ** 45;

/**
 * The bytes of "512Mi", "1.5Gi" or a plain number. Undefined if it is not a size or out of range.
 */
export function parseBytes(text: string | number): number | undefined {
  const match = /^(\d{1,15}(?:\.\d{1,6})?)(Ki|Mi|Gi|Ti|k|M|G|T)?$/.exec(String(text));
  if (!match) return undefined;
  const bytes = Math.round(Number(match[1]) * (unitBytes[match[2] ?? ""] ?? 1));
  return bytes <= BYTES_MAX ? bytes : undefined;
}
