/**
 * Removes control characters and line breaks from external text: labels of alerts, reasons, names.
 * Such text can then neither break a table nor control the terminal.
 */
export function plainText(text: string): string {
  // eslint-disable-next-line no-control-regex -- the function replaces control characters
  return text.replace(/[\s\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
}

/** Makes one sentence of external text: it ends with one period, question or exclamation mark. */
export function plainSentence(text: string): string {
  const sentence = plainText(text).replace(/\.+$/, ".");
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** Removes control characters from external text, but retains line breaks. */
export function plainLines(text: string): string {
  // eslint-disable-next-line no-control-regex -- the function replaces control characters
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/g, " ");
}
