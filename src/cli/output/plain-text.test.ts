import { expect, test } from "vitest";
import { plainSentence } from "./plain-text.ts";

test.each([
  ["no host fits", "no host fits."],
  ["No host fits.", "No host fits."],
  ["No host fits [other-pool]..", "No host fits [other-pool]."],
  ["Which\nhost?", "Which host?"],
])("%j becomes the sentence %j", (text, sentence) => {
  expect(plainSentence(text)).toBe(sentence);
});
