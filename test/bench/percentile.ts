/** The value below which `percent` of the values lie, to a hundredth; 0 without values. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const index = Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100));
  return Math.round((sorted[index] ?? 0) * 100) / 100;
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}
