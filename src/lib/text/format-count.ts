/** A number with its noun: "1 set", "3 sets". For nouns with a plural in s. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
