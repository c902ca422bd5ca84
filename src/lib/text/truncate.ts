/**
 * The beginning of a text, of at most so many UTF-16 units. A character of two units is not cut in half: half of one can be stored by
 * no database and sent in no URL.
 */
export function cutText(text: string, charsMax: number): string {
  return text.slice(0, charsMax).replace(/[\uD800-\uDBFF]$/, "");
}
