/**
 * Returns the beginning of a text, at most `charsMax` UTF-16 units long. It never splits a
 * surrogate pair, because neither databases nor URLs accept half of one.
 */
export function truncate(text: string, charsMax: number): string {
  return text.slice(0, charsMax).replace(/[\uD800-\uDBFF]$/, "");
}
