/** Collects the values of a repeatable option, in order. Commander alone retains the last one. */
export function addTo(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
