import { expect, it } from "vitest";
import { openSealed, seal } from "./seal.ts";

it("what was sealed is opened with the same secret and key", async () => {
  const sealed = await seal("the answer", "secret", "key");
  expect(await openSealed(sealed, "secret", "key")).toBe("the answer");
});

it("nobody else opens it: neither another secret, nor another key", async () => {
  const sealed = await seal("the answer", "secret", "key");
  expect(await openSealed(sealed, "other", "key")).toBeUndefined();
  expect(await openSealed(sealed, "secret", "other")).toBeUndefined();
  expect(await openSealed(sealed, "secre", "tkey")).toBeUndefined();
});

it("what was altered is not opened", async () => {
  const bytes = Buffer.from(await seal("the answer", "secret", "key"), "base64");
  bytes[14] = (bytes[14] ?? 0) ^ 1;
  expect(await openSealed(bytes.toString("base64"), "secret", "key")).toBeUndefined();
});

it("the same text is sealed differently each time, and never shows", async () => {
  const [one, other] = await Promise.all([seal("text", "s", "k"), seal("text", "s", "k")]);
  expect(one).not.toBe(other);
  expect(Buffer.from(one, "base64").toString("latin1")).not.toContain("text");
});
