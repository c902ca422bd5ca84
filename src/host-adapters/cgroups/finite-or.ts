/** Formats a limit for a file or a property that has a word of its own for "no limit". */
export function finiteOr(unlimited: string, limit = Infinity): string {
  return Number.isFinite(limit) ? String(limit) : unlimited;
}
