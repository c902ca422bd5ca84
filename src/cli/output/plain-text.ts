/**
 * Text from elsewhere (labels of alerts, reasons, names) on one line and without control characters, so that it can
 * neither break a table nor drive the reader's terminal.
 */
export function plainText(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is replaced
  return text.replace(/[\s\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
}

/** Several lines of text from elsewhere: line breaks stay, other control characters go. */
export function plainLines(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what is replaced
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/g, " ");
}
