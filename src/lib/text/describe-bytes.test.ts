import { expect, test } from "vitest";
import { describeBytes } from "./describe-bytes.ts";

test.each([
  [0, "0 bytes"],
  [1023, "1023 bytes"],
  [1024, "1 KiB"],
  [64 * 2 ** 20, "64 MiB"],
  [1.5 * 2 ** 30, "1.5 GiB"],
  [2 ** 33 + 50 * 2 ** 20, "8.049 GiB"],
  [5000 * 2 ** 40, "5000 TiB"],
])("%d bytes are %j", (bytes, text) => {
  expect(describeBytes(bytes)).toBe(text);
});
