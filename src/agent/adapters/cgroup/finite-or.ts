/** A limit as a file or a property has it, which has a word of its own for none. */
export function finiteOr(unlimited: string, limit = Infinity): string {
  return Number.isFinite(limit) ? String(limit) : unlimited;
}
