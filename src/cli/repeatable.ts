/** For an option that may be given several times: its values, in order. Without this the last one alone would count. */
export function addTo(value: string, before: readonly string[] = []): string[] {
  return [...before, value];
}
